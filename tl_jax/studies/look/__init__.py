"""Pictures of a base: filters, feature maps, images that excite a channel, a map of a task."""

MOST_CLASSES = 5  # classes whose channels are shown if the config names no channel
