"""Training: the loop, its step, and the data of a run."""
