"""What each layer of a base holds that a simple classifier can use, and with how many labels."""

METRICS = {"test": "accuracy", "test_weighted": "weighted_accuracy"}  # of a cell: whose it is
