"""LSDA: detectors for classes without boxes, from those that have some.

Hoffman et al. 2014, LSDA: Large Scale Detection through Adaptation (arXiv:1407.5035).
"""

# What is judged, in this order; all see the classes of whole images first
WAYS = {
    "classified": "the classifier of whole images, as it is",
    "adapted": "after learning from the boxes of the other classes",
    "shifted": "and moved by the shift of the nearest of these: LSDA",
    "oracle": "after learning from the boxes of all classes",
}
