"""Probes: how accurate simple classifiers are at each layer of a base, by label budget."""

METRICS = {"test": "accuracy", "test_weighted": "weighted_accuracy"}  # a cell's key: the metric
