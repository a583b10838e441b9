"""Several tasks at once: what each gains or loses beside a network of its own."""

EQUAL, SINGLE, STITCHED = "equal", "single", "cross_stitch"
PLAIN = "plain"  # the config itself, among its variants
OWN = "head"  # the name of the task's own classification among its tasks


def metric(name: str) -> str:
    """Return the score that is the accuracy of the task `name`."""
    return "accuracy" if name == OWN else f"{name}_accuracy"
