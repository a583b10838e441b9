"""Pictures of a base: its filters, its feature maps, what excites a channel, a map of a task."""

MOST_CLASSES = 5  # whose channels are shown where no channel is asked for
