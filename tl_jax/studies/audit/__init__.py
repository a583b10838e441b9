"""What a task's data are like: balance, sizes, copies, doubtful labels, a source beside it."""
