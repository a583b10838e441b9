"""Search for images or texts with a base's off-the-shelf features, and how well it finds those of a
class.
"""

AT = (1, 5, 10)  # ranks at which recall is measured
