"""Vectors of words: learnt from a task's texts, their neighbours and a map of them."""
