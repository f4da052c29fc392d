"""Inference: a model over a volume, block by block."""
