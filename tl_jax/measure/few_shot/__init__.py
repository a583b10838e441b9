"""Classes of which a few examples are known: episodes, and the methods that answer them."""
