"""The figures of Yosinski et al. 2014, recomputed from their logs."""

SOURCE = (
    "mean of the ten best validation accuracies of each of 163 logs in yosinski/convnet_transfer"
)
# Accuracy at n = 1 to 7 of CaffeNet on halves of ImageNet: our means of their logs
PUBLISHED = {
    "BnB": (0.6267, 0.6235, 0.6211, 0.6048, 0.5935, 0.6188, 0.6232),
    "AnB": (0.6282, 0.6239, 0.6189, 0.5998, 0.5780, 0.5806, 0.5425),
    "BnB+": (0.6177, 0.6215, 0.6313, 0.6287, 0.6301, 0.6276, 0.6266),
    "AnB+": (0.6373, 0.6358, 0.6426, 0.6398, 0.6446, 0.6460, 0.6465),
    "random": (0.4917, 0.4026, 0.0011, 0.0191, 0.0499, 0.0145, 0.0146),
}
PUBLISHED_BASE = 0.6251
# AnB with 449 natural and 551 man-made classes, and the base of the target
PUBLISHED_DISSIMILAR = {
    "natural to man-made": (0.5392, 0.5214, 0.5008, 0.4616, 0.4098, 0.3742, 0.2914),
    "man-made to natural": (0.6571, 0.6506, 0.6250, 0.5824, 0.5219, 0.4851, 0.3990),
}
PUBLISHED_DISSIMILAR_BASE = {"natural to man-made": 0.5372, "man-made to natural": 0.6534}
