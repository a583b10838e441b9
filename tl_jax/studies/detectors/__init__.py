"""What transfer gives a detector: every plan at budgets of labelled images, over seeds."""

METRICS = {"map": "mAP", "ap50": "AP at IoU 0.5"}  # of a cell, on test
