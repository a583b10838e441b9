"""Train small SentencePiece models and write what the library itself makes of some texts.

    python tests/sentencepiece/make.py      # needs sentencepiece, which the tests do without

`small.model` is usual but for its few rules of normalisation, because the usual ones have 240 KB;
`plain.model` has none, a piece for each byte and symbols of a user's; `fastai.model` has fastai's
special tokens, as its own trainer gives them.
"""

import io
import json
import pathlib
import tempfile
from pydoc_data import topics

import sentencepiece

HERE = pathlib.Path(__file__).parent
FASTAI = "xxunk xxpad xxbos xxeos xxfld xxrep xxwrep xxup xxmaj".split()
RULES = {"ﬁ": "fi", "Ａ": "A", "　": " ", "\t": " ", "\n": " ", "½": "1⁄2", "e\u0301": "é"}
MODELS = {
    "small": {"vocab_size": 300},
    "plain": {
        "vocab_size": 500,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": 2,
        "eos_id": 3,
        "user_defined_symbols": ["<sep>", "Python"],
    },
    "fastai": {
        "vocab_size": 300,
        "unk_id": len(FASTAI),
        "bos_id": -1,
        "eos_id": -1,
        "pad_id": -1,
        "user_defined_symbols": [f"▁{word}" for word in FASTAI],
        "hard_vocab_limit": False,
    },
}
TEXTS = [
    "The value of the expression is a list.",
    "  Leading, doubled  and trailing   spaces  ",
    "Tabs\tand\nlines",
    "ﬁne Ａ half　width ½ ① e\u0301 é ǅ",
    "Füße, naïveté, señor; Ünïcödé",
    "日本語のテキスト and Ελληνικά",
    "emoji 🙂🙂 and \U000e0001 tags",
    "a literal <s> or <unk> or <pad>, <sep>, a<sep>b Python Pythonic aPython",
    "under▁score",
    "x",
    "supercalifragilisticexpialidocious 1234567890 !!!???",
    "import os; print(f'{os.getcwd()!r}')  # comment",
]


def codes(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)


def main():
    texts = [" ".join(topics.topics[name].split()) for name in sorted(topics.topics)]
    lines = [text[at : at + 200] for text in texts for at in range(0, len(text), 200)]
    answers = {"texts": TEXTS, "fastai_texts": [f"xxbos {text.lower()}" for text in TEXTS[:4]]}
    answers["fastai_texts"] += ["xxbos xxmaj good xxup ok xxrep 4 c", "xxbos xxmaj xxmaj the list"]
    rules = pathlib.Path(tempfile.mkdtemp()) / "rules.tsv"
    rules.write_text("".join(f"{codes(one)}\t{codes(other)}\n" for one, other in RULES.items()))
    for name, options in MODELS.items():
        if "normalization_rule_name" not in options:
            options["normalization_rule_tsv"] = str(rules)
        file = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, minloglevel=2, **options
        )
        (HERE / f"{name}.model").write_bytes(file.getvalue())
        mine = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
        answers[name] = mine.encode(answers["fastai_texts"] if name == "fastai" else TEXTS)
    answers["version"] = sentencepiece.__version__
    (HERE / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
