"""Studies: each is a grid of runs, probes or scores, with the tables and the page that show it.

A study is a folder. Its `study.py` computes and its `page.py` shows; neither calls the other.
"""
