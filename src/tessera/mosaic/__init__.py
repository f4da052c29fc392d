"""From tiles to one volume: registration, one global solution, fusion."""
