"""Studies: a grid of runs, probes or scores, and the tables and the page made of it.

A study is a folder. Its `study.py` computes and its `page.py` shows; neither calls the other.
"""
