"""Shallow heads on fixed features: what a layer holds that a simple classifier can use.

`protocol.examine` chooses each probe's setting on validation and tests it once. The probes are in
`linear` (ridge, logistic regression, linear SVM) and `distance` (nearest neighbours, nearest class
mean, RBF SVM): pure functions from a `points.Points` and settings to predictions.
"""
