"""Shallow classifiers on fixed features: they measure how usable a layer's output is.

`protocol.examine` chooses each probe's setting on validation and tests the probe once. The probes
are pure functions from a `points.Points` and settings to predictions. They are in `linear` (ridge,
logistic regression, linear SVM) and `distance` (nearest neighbours, nearest class mean, RBF SVM).
"""
