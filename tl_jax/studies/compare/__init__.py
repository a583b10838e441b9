"""Metrics of finished runs over their seeds, and methods compared with each other."""
