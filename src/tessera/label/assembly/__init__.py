"""Subvolumes that overlap become one volume of global ids."""
