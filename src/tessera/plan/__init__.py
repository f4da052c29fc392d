"""``tessera plan``: what a run will cost, and what a cluster's limits make of it, beforehand."""
