"""How good a representation is: features by layer, probes, scores, similarity, retrieval."""
