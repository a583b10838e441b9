"""Similarity of a base's layers to each other, to another base's, and to its own fine-tuned."""

ITSELF, TUNED = "itself", "fine-tuned"  # names of two of the other bases
