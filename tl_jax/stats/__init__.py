"""Metrics, intervals and rankings."""
