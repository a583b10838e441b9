"""What leaves here: a base as a program that JAX alone reads, behind HTTP, on a hub."""
