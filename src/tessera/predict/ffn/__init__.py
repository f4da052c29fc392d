"""Filling by a flood-filling network: canvas, seeds, moves, subvolumes."""
