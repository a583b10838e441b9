"""Advice on a new task from tables of scenarios, and how good such advice is."""
