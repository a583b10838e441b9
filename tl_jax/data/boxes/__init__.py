"""Boxes around things in images: read from files, moved with pixels, padded to arrays."""
