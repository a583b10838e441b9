"""Classes of which a few examples are known: accuracy in episodes, by base, layer and method."""
