"""Metrics, intervals, paired comparisons, verdicts and rankings."""
