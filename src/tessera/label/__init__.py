"""Predictions to labels: connected components with ids that are global across blocks."""
