"""Training of flood-filling networks."""
