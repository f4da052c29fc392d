"""A volume and a model to probabilities, block by block."""
