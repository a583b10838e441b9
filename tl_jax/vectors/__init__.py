"""Vectors of words: learnt from texts without labels, and judged."""
