"""Measures of a representation: features by layer, probes, scores, similarity, retrieval."""
