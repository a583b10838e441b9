"""Which learning rate each phase of a plan should begin from: losses while the rate rises."""
