"""Do labels in one language help in another, through a language model of both?"""

# What a classifier sees of a text, and whose labels it learns from
FEATURES = {
    "pieces": "how often each subword occurs (tf-idf)",
    "model": "the language model's last layer, mean over the text",
    "centred": "the same, less its language's mean over texts without labels",
}
LABELS = ("own", "own and source")
