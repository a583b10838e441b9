"""How much reality does simulation replace? Accuracy over real labels, with and without it."""

NONE = "none"  # the curve of real labels alone
