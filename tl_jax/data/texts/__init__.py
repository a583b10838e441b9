"""Texts as data: fastai's rules, words, a vocabulary, what a base expects, streams of tokens."""
