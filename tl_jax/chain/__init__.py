"""Networks as named layers: places, variables, heads."""
