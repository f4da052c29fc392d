"""Scores against truth, on boxes that training never saw, with confidence intervals."""
