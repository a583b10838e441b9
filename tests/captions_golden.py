"""Writes captions_golden.json: BLEU and CIDEr-D of random captions, by COCO's own code and nltk.

    pip install pycocoevalcap==1.2 nltk==3.10.4
    python tests/captions_golden.py
"""

import json
import pathlib
import random

# nltk counts one n-gram in a caption that is shorter than n words, which COCO's code does not.
CASES = ((0, 12, 1, 1), (1, 20, 3, 1), (2, 8, 5, 4))
WORDS = "a the cat dog red big on under sits runs tree house".split()


def cases(seed, images, references, least):
    drawn = random.Random(seed)

    def sentence():
        return [drawn.choice(WORDS) for _ in range(drawn.randint(least, 9))]

    def near(words):
        return [drawn.choice(WORDS) if drawn.random() < 0.25 else word for word in words]

    refs = [[sentence() for _ in range(references)] for _ in range(images)]
    told = [near(own[0])[: drawn.randint(least, 9)] for own in refs]
    return told, refs


def scored(told, refs):
    from nltk.translate.bleu_score import corpus_bleu
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    hypotheses = {i: [" ".join(words)] for i, words in enumerate(told)}
    truth = {i: [" ".join(words) for words in own] for i, own in enumerate(refs)}
    bleu, _ = Bleu(4).compute_score(truth, hypotheses, verbose=0)
    cider, each = Cider().compute_score(truth, hypotheses)
    weights = [(1 / n,) * n for n in range(1, 5)]
    by_nltk = [corpus_bleu(refs, told, weights=weight) for weight in weights]
    return {
        "told": told,
        "references": refs,
        "bleu": [float(x) for x in bleu],
        "nltk": by_nltk if all(len(words) >= 4 for words in told) else None,
        "cider": float(cider),
        "cider_of_each": [float(x) for x in each],
    }


if __name__ == "__main__":
    found = [scored(*cases(seed, n, k, least)) for seed, n, k, least in CASES]
    place = pathlib.Path(__file__).with_name("captions_golden.json")
    place.write_text(json.dumps(found, separators=(",", ":")) + "\n")
