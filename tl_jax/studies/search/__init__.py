"""Image search with a base's features as they are, and how well it finds images of a class."""

AT = (1, 5, 10)  # places at which recall is told
