"""What a task's data are like: balance, sizes, copies, doubtful labels, a source beside it."""

MOST_CLASSES = 20  # of which examples are shown
