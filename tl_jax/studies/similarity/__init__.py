"""How alike the layers of a base are: to each other, to another base's, to its own fine-tuned."""

ITSELF, TUNED = "itself", "fine-tuned"  # what two of the other bases are called
