"""Devices and disk: how a step is spread, stores, checkpoints."""
