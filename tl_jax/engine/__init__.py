"""Devices and disk: parallel steps, the frozen prefix, stores, checkpoints."""
