"""Training: the loop, its step, and what a run is made of."""
