"""Words: fastai's rules for texts, a split into tokens, a vocabulary."""
