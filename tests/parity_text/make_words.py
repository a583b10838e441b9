"""Make the answers of gensim 4.4.0 for similarity, analogies, neighbours and fastText's n-grams.

python tests/parity_text/make_words.py    # in an environment that has gensim
"""

import json
import pathlib
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
WORDS = [f"{a}{b}" for a in ("ba", "ke", "li", "no", "su") for b in "fghjmprt"]  # 40
SPELT = ["where", "a", "is", "naïve", "中文字", "it's", "übergrößen", "word2vec"]


def scored(rng: np.random.Generator) -> list[str]:
    """Lines of pairs with scores, some with an unknown word or a capital."""
    lines = []
    for number in range(60):
        one, other = rng.choice([*WORDS, "zzz"], 2, replace=False)
        one = one.capitalize() if number % 7 == 0 else one
        lines.append(f"{one}\t{other}\t{rng.uniform(0, 10):.2f}")
    return lines


def questions(rng: np.random.Generator, rows: np.ndarray) -> list[str]:
    """Lines of two sections, of which many have the answer that 3CosAdd gives."""
    lines, unit = [], rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for section in ("capital", "gram1-plural"):
        lines.append(f": {section}")
        for number in range(30):
            a, b, c, d = rng.choice(len(WORDS), 4, replace=False)
            if number % 2:
                cosines = (unit[b] - unit[a] + unit[c]) @ unit.T
                cosines[[a, b, c]] = -9
                d = cosines.argmax()
            four = [WORDS[place] for place in (a, b, c, d)]
            lines.append(" ".join(four if number % 10 else [*four[:3], "zzz"]))
    return lines


def answers() -> dict:
    """What gensim says of random vectors."""
    from gensim.models import KeyedVectors
    from gensim.models.fasttext_inner import compute_ngrams, ft_hash_bytes

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(WORDS), 6)).round(3).astype(np.float32)
    vectors = KeyedVectors(6)
    vectors.add_vectors(WORDS, rows)
    pairs, asked = scored(rng), questions(rng, rows)
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / name for name in ("pairs", "questions")]
        for file, lines in zip(files, (pairs, asked), strict=True):
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _, spearman, missing = vectors.evaluate_word_pairs(str(files[0]))
        _, sections = vectors.evaluate_word_analogies(str(files[1]))
    return {
        "words": WORDS,
        "rows": [[round(float(x), 3) for x in row] for row in rows],
        "pairs": pairs,
        "spearman": float(spearman.statistic),
        "missing_percent": missing,
        "questions": asked,
        "sections": {s["section"]: [len(s["correct"]), len(s["incorrect"])] for s in sections},
        "neighbours": {w: vectors.most_similar(w, topn=5) for w in WORDS[:5]},
        "ngrams": {word: compute_ngrams(word, 3, 6) for word in SPELT},
        "hashes": {g: ft_hash_bytes(g.encode()) for w in SPELT for g in compute_ngrams(w, 3, 6)},
    }


if __name__ == "__main__":
    text = json.dumps(answers(), ensure_ascii=False, indent=0)
    (HERE / "gensim-words.json").write_text(text + "\n", encoding="utf-8")
