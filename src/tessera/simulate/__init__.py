"""simulate: raw scans of a specimen whose truth is known in closed form."""
