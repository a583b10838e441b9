"""What a task's data are like, before anything is trained on them.

`contents` (sizes, classes, balance), `copies` (near-duplicate images), `doubts` (labels that may be
wrong) and `relation` (how a base's features suit the task, and how far another task is).
"""
