"""Which way of transferring wins, by how much, and where transfer hurts: a grid of scenarios."""
