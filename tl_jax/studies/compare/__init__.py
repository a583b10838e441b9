"""The metrics of finished runs of one config, over their seeds."""
