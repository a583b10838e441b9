"""A base: a network, its weights, and the preprocessing they were trained with."""
