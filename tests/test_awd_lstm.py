"""AWD-LSTM: fastai's own classes on the same weights, its files, and what padding and states do."""

import functools
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from test_torch_file import archive, ordered, storage, tensor

from tl_jax.base.attribution import word_weights
from tl_jax.base.load import load_base
from tl_jax.chain.heads import StepsPool, ulmfit
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known
from tl_jax.chain.recurrent import LSTM, QRNN, Dropped, Embed
from tl_jax.chain.variables import flat, select
from tl_jax.data.texts.rules import SPECIALS
from tl_jax.errors import UserError
from tl_jax.models import awd_lstm
from tl_jax.models.awd_lstm import Shape, match_words
from tl_jax.ops import is_real
from tl_jax.train.objectives import LanguageModel
from tl_jax.weights import convert
from tl_jax.weights.torch_file import read_state_dict
from tl_jax.weights.vocabulary_file import read_vocabulary

# fastai 2.8.12's awdlstm.py and core.py on PyTorch 2.13 in double precision: random weights under
# fastai's names, and what they give in inference mode: logits, gradients, a classifier's outputs
GOLDEN = dict(np.load(pathlib.Path(__file__).parent / "fastai_awd_lstm.npz"))
SHAPE = Shape(words=12, features=4, hidden=6)
NETWORK = awd_lstm.language_model(SHAPE)
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def golden(part: str) -> dict[str, np.ndarray]:
    """The golden arrays of one part, by their names in it."""
    return {n.removeprefix(f"{part}/"): GOLDEN[n] for n in GOLDEN if n.startswith(f"{part}/")}


def from_fastai(arrays, network):
    """Variables of a language model from the arrays of a file of fastai's."""
    rules = awd_lstm.rules("awd_lstm", "fastai")
    found = convert.find(awd_lstm.tidied(arrays), rules, keras=False)
    return convert.fill(found, network.shapes(jax.ShapeDtypeStruct((1, 1), np.int32))[0])


@functools.cache
def variables():
    return from_fastai(golden("lm"), NETWORK)


def assert_gradients(found, theirs):
    """PyTorch's two biases have the same gradient, and the sum that is here has it once."""
    once = {n: a for n, a in theirs.items() if not n.endswith("bias_hh_l0")}
    once |= {n: np.zeros_like(a) for n, a in theirs.items() if n.endswith("bias_hh_l0")}
    expected = flat(from_fastai({"1.decoder.bias": np.zeros(12, np.float32)} | once, NETWORK))
    for path in flat({"params": found}):
        scale = np.abs(expected[path]).max()
        np.testing.assert_allclose(
            flat({"params": found})[path], expected[path], rtol=1e-4, atol=1e-5 * scale
        )


def test_logits_and_gradients_are_those_of_fastai():
    tokens = jnp.asarray(GOLDEN["tokens"])

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        logits = NETWORK.apply({**variables(), "params": params}, tokens).output
        return (logits[:, :6] * GOLDEN["weights"]).sum(), logits

    found, logits = gradient(variables()["params"])
    np.testing.assert_allclose(logits, GOLDEN["logits"], **CLOSE)
    assert_gradients(found, golden("gradient"))


def streamed(network, variables, tokens, at) -> np.ndarray:
    """Log-probabilities of tokens in windows, which begin at these steps."""

    @jax.jit
    def predict(tokens, carry):
        net = Net(network, network.combine(variables["params"]), {})
        return LanguageModel().predict(net, {"inputs": Known(tokens=tokens)}, carry)

    parts, carry = [], ()
    for window in np.split(tokens, at, axis=1):
        log_p, carry = predict(jnp.asarray(window), carry)
        parts.append(log_p)
    return np.concatenate(parts, 1)


def test_a_language_model_goes_on_from_the_states_of_the_window_before():
    predicted = streamed(NETWORK, variables(), GOLDEN["tokens"], (6, 7))
    np.testing.assert_allclose(predicted, jax.nn.log_softmax(GOLDEN["logits"]), **CLOSE)


def test_a_qrnn_is_a_variant_whose_first_layer_sees_two_words():
    network = awd_lstm.language_model(Shape(12, 4, 6, depth=2, cell=QRNN))
    fresh = network.init(0, {"tokens": jnp.asarray(GOLDEN["tokens"])})
    parts, whole = (streamed(network, fresh, GOLDEN["tokens"], at) for at in ((5,), ()))
    np.testing.assert_allclose(parts, whole, **CLOSE)
    assert "earlier_kernel" in fresh["params"]["qrnn1"] and len(fresh["params"]["qrnn2"]) == 2


def classifier() -> tuple[Network, dict]:
    """With fastai's random head; documents run in parts of 4 tokens."""
    shape = Shape(words=12, features=4, hidden=6, bptt=4)
    base = awd_lstm.language_model(shape).cut("lstm3")
    network, head = base.with_layers(*ulmfit(3, 0.2, hidden=5)), golden("head")
    params, stats = dict(select(variables(), base.names)["params"]), {}
    for number, name in enumerate(("head_hidden", "head")):
        norm, kernel = f"1.layers.{number}.0.", head[f"1.layers.{number}.2.weight"].T
        params[name] = {"Dense_0": {"kernel": kernel}}
        params[name]["norm"] = {"scale": head[norm + "weight"], "bias": head[norm + "bias"]}
        running = {"mean": head[norm + "running_mean"], "var": head[norm + "running_var"]}
        stats[name] = {"norm": running}
    return network, {"params": params, "batch_stats": stats}


def test_a_classifier_gives_what_fastai_does_on_padded_documents():
    """One is padded in front and behind; no gradient goes from one part of four to that before."""
    network, mine = classifier()
    documents = jnp.asarray(GOLDEN["documents"])

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        of = {**mine, "params": params}
        applied = network.apply(of, documents, taps=("embed", "lstm3", "head_pool"))
        return (applied.output * GOLDEN["class_weights"]).sum(), (applied.output, applied.taps)

    found, (classes, taps) = gradient(mine["params"])
    mask = GOLDEN["documents"] != SHAPE.pad
    np.testing.assert_array_equal(is_real(taps["embed"]), mask)
    np.testing.assert_array_equal(is_real(taps["lstm3"]), mask)
    np.testing.assert_allclose(taps["lstm3"][mask], GOLDEN["encoded"][mask], **CLOSE)
    np.testing.assert_allclose(taps["head_pool"], GOLDEN["pooled"], **CLOSE)
    np.testing.assert_allclose(classes, GOLDEN["classes"], rtol=1e-4, atol=1e-5)
    theirs = golden("class_gradient")
    below = {n.replace("0.module.", "0.", 1): a for n, a in theirs.items() if n[0] == "0"}
    assert_gradients({n: found[n] for n in found if not n.startswith("head")}, below)
    np.testing.assert_allclose(
        found["head"]["Dense_0"]["kernel"].T, theirs["1.layers.1.2.weight"], rtol=1e-3, atol=1e-5
    )


def test_a_file_becomes_a_base_with_its_words_and_then_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setitem(awd_lstm.VARIANTS, "awd_lstm_small", SHAPE)
    words = [*SPECIALS, "the", "film", "was"]
    (tmp_path / "itos_wt103.pkl").write_bytes(pickle.dumps(words))
    base = load_base("awd_lstm_small", saved(tmp_path / "lstm_wt103.pth", golden("lm")))
    assert base.architecture.words == 12 and base.preprocessing.pad == 1
    text = "The film was okay"
    assert base.preprocessing(text)[0, :7].tolist() == [2, 8, 9, 10, 11, 0, 1]
    (tmp_path / "itos_wt103.pkl").write_bytes(pickle.dumps([*words, "okay"]))
    with pytest.raises(UserError, match="has 13 words, their table 12"):
        load_base("awd_lstm_small", tmp_path / "lstm_wt103.pth")
    tokens = jnp.asarray(GOLDEN["tokens"])
    np.testing.assert_allclose(base(tokens), GOLDEN["logits"], **CLOSE)
    headed = base.with_head(3, cut="lstm3", head="ulmfit(hidden=5)")
    assert headed.layers[-3:] == ("head_pool", "head_hidden", "head")
    np.testing.assert_array_equal(headed(tokens, layer="lstm3"), base(tokens, layer="lstm3"))
    headed.save(tmp_path / "model.safetensors")
    again = load_base(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict([text]), headed.predict([text]))
    assert again.predict([text]).shape == (1, 3)
    words = [word for word, _ in word_weights(headed, text, 0)]
    assert "".join(words) == "xxbos xxmaj the film was okay"


def test_sizes_and_rates_are_those_of_fastai():
    variables, _ = awd_lstm.language_model(Shape(60_000)).shapes(
        {"tokens": jax.ShapeDtypeStruct((1, 2), np.int32)}
    )
    sizes = {
        name: sum(a.size for a in jax.tree.leaves(p)) for name, p in variables["params"].items()
    }
    assert sizes.pop("embed") == 24_000_000 and sizes.pop("decode") == 60_000
    assert sum(sizes.values()) == 20_262_464  # PyTorch's second biases are 10,816 more
    layers = {layer.name: layer.module for layer in awd_lstm.language_model(Shape(9)).layers}
    assert layers["embed"].dropout == 0.02 and layers["dropped"].dropout == 0.1
    rates = [(layers[f"lstm{n}"].dropout, layers[f"lstm{n}"].weight_dropout) for n in (1, 2, 3)]
    assert rates == [(0.25, 0.2), (0.15, 0.2), (0.15, 0.2)]


CELLS = {"lstm": LSTM(3), "qrnn": QRNN(3), "qrnn of two": QRNN(3, window=2)}
STEPS, LONG = 5, 9


@functools.cache
def cell(name: str):
    """Weights of a cell, and the program that runs it from a state."""
    x = jnp.ones((2, STEPS, 4))
    weights = CELLS[name].init(jax.random.key(0), x, CELLS[name].initial(2))
    return weights, jax.jit(CELLS[name].apply)


def steps(number: int = 0) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(2, STEPS, 4)).astype(np.float32)


@pytest.mark.parametrize("name", CELLS)
@given(places=st.lists(st.permutations(range(LONG)), min_size=2, max_size=2))
@settings(max_examples=10)
def test_padding_anywhere_moves_no_state(name, places):
    weights, run = cell(name)
    x, begin = steps(), CELLS[name].initial(2)
    rows = np.arange(2)[:, None], np.sort([p[:STEPS] for p in places])
    padded = np.zeros((2, LONG, 4), np.float32)
    padded[rows] = x
    (plain, end), (long, same_end) = (
        (value["sequence"], value["state"])
        for value in (run(weights, a, begin) for a in (x, padded))
    )
    np.testing.assert_allclose(long[rows], plain, atol=1e-6)
    np.testing.assert_array_equal(is_real(long).sum(1), [STEPS] * 2)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), same_end, end)


@pytest.mark.parametrize("name", CELLS)
def test_parts_with_the_state_carried_are_the_whole(name):
    weights, run = cell(name)
    x, state, parts = steps(), CELLS[name].initial(2), []
    for part in (x[:, :2], x[:, 2:3], x[:, 3:]):
        value = run(weights, part, state)
        state = value["state"]
        parts.append(value["sequence"])
    np.testing.assert_allclose(np.concatenate(parts, 1), run(weights, x), atol=1e-6)


def test_a_qrnn_step_by_step():
    """Bradbury et al. 2016, equations 1 to 4, in a loop."""
    weights, run = cell("qrnn of two")
    found, x = run(weights, steps()), steps()
    p = {name: np.asarray(leaf) for name, leaf in weights["params"].items()}
    c, before = np.zeros((2, 3)), np.zeros((2, 4))
    for t in range(STEPS):
        gates = before @ p["earlier_kernel"] + x[:, t] @ p["input_kernel"] + p["bias"]
        z, f, o = np.split(gates, 3, -1)
        f, o = 1 / (1 + np.exp(-f)), 1 / (1 + np.exp(-o))
        c, before = f * c + (1 - f) * np.tanh(z), x[:, t]
        np.testing.assert_allclose(found[:, t], o * c, rtol=1e-5, atol=1e-6)


def test_weights_are_left_out_for_all_steps_and_examples_alike():
    """Where the gradient is 0 a weight was left out: without it and without dropout, the same."""
    weights, _ = cell("lstm")
    dropped, rngs = LSTM(3, weight_dropout=0.4), {"dropout": jax.random.key(1)}
    x = jnp.asarray(steps())
    outwards = jnp.asarray(np.random.default_rng(1).normal(size=(2, STEPS, 3)), jnp.float32)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(weights):
        value = dropped.apply(weights, x, rngs=rngs)
        return (value * outwards).sum(), value

    gradient, value = run(weights)
    kept = gradient["params"]["recurrent_kernel"] != 0
    assert 0.2 < 1 - kept.mean() < 0.6
    kernel = weights["params"]["recurrent_kernel"] * kept / 0.6
    left = {**weights["params"], "recurrent_kernel": kernel}
    plain = jax.jit(LSTM(3).apply)({"params": left}, x)
    np.testing.assert_allclose(plain, value, rtol=1e-5, atol=1e-6)


def test_words_are_left_out_wherever_they_stand_and_are_no_padding():
    embed, tokens = Embed(50, 4, pad=1, dropout=0.5), jnp.arange(100).reshape(2, 50) % 50
    rngs = {"dropout": jax.random.key(0)}
    vectors, weights = jax.jit(embed.init_with_output)(
        {"params": jax.random.key(0), **rngs}, tokens
    )
    table = weights["params"]["table"]
    gone = np.abs(vectors).max(-1) < 1e-20
    np.testing.assert_array_equal(gone[0], gone[1])
    assert 10 < gone[0].sum() < 40
    np.testing.assert_allclose(vectors[0][~gone[0]], 2 * table[~gone[0]])
    np.testing.assert_array_equal(is_real(vectors), tokens != 1)


def test_features_are_dropped_at_all_steps_of_an_example():
    x = jnp.ones((8, 5, 30))
    kept = Dropped(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1], x.shape))
    assert set(np.unique(kept)) == {0.0, 2.0} and len(np.unique(kept[:, 0], axis=0)) == 8


def test_pooling_by_hand():
    """Padded behind, in front, not at all, and altogether."""
    x = [
        [[-1, 2], [-3, -2], [0, 0]],
        [[0, 0], [0, 0], [4, -5]],
        [[1, 2], [0, 3], [-4, 1]],
        [[0, 0]] * 3,
    ]
    found = jax.jit(StepsPool().apply)({}, jnp.asarray(x, jnp.float32))
    expected = [
        [-3, -2, -1, 2, -2, 0],
        [4, -5, 4, -5, 4, -5],
        [-4, 1, 1, 3, -1, 2],
        [0] * 6,
    ]
    np.testing.assert_allclose(found, expected)


def saved(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    """A file as `torch.save` writes it, with these arrays."""
    stored = {str(n): np.ascontiguousarray(a) for n, a in enumerate(arrays.values())}
    entries = {}
    for (key, array), name in zip(stored.items(), arrays, strict=True):
        strides = tuple(s // array.itemsize for s in array.strides)
        entries[name] = tensor(storage(key=key, numel=array.size), array.shape, strides)
    return archive(path, ordered(entries), stored)


def test_fastais_files_are_read(tmp_path):
    arrays = golden("lm")
    raw = {n.replace("weight_hh_l0_raw", "module.weight_hh_l0"): 0 * a for n, a in arrays.items()}
    arrays |= {n: a for n, a in raw.items() if n.endswith("module.weight_hh_l0")}
    found = from_fastai(read_state_dict(saved(tmp_path / "lstm_fwd.pth", arrays)), NETWORK)
    jax.tree.map(np.testing.assert_array_equal, found, variables())


def test_files_of_other_networks_are_refused():
    arrays = golden("lm")
    untied = arrays | {"1.decoder.weight": arrays["1.decoder.weight"] + 1}
    with pytest.raises(UserError, match="'0.encoder.weight' and '1.decoder.weight' differ"):
        from_fastai(untied, NETWORK)
    half = {n: a for n, a in arrays.items() if n != "0.rnns.1.module.bias_hh_l0"}
    with pytest.raises(UserError, match="lacks params/lstm2/input/bias; .*1.module.bias_ih_l0"):
        from_fastai(half, NETWORK)
    with pytest.raises(UserError, match="also has 'rnn3"):
        from_fastai(arrays, awd_lstm.language_model(Shape(12, 4, 4, depth=2)))


WORDS = ["xxunk", "xxpad", "the", "Zürich", "▁", "xxfake", "xxfake"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_vocabulary_is_a_pickled_list_of_words(tmp_path, protocol):
    (tmp_path / "itos.pkl").write_bytes(pickle.dumps(WORDS, protocol))
    assert read_vocabulary(tmp_path / "itos.pkl") == tuple(WORDS)


@pytest.mark.parametrize(
    "content",
    [
        *map(
            pickle.dumps, (dict.fromkeys(WORDS), [*WORDS, 3], [WORDS], "the", [], pathlib.Path("x"))
        ),
        b"cposix\nsystem\n(S'true'\ntR.",
        pickle.dumps(WORDS)[:-5],
        b"",
        b"the\nof\n",
    ],
)
def test_any_other_file_is_no_vocabulary(tmp_path, content):
    (tmp_path / "itos.pkl").write_bytes(content)
    assert refusals.refused(read_vocabulary, tmp_path / "itos.pkl")


def test_words_keep_their_vectors_in_another_vocabulary():
    found = flat(match_words(variables(), "abcdefghijkl", "bxacyz")["params"])
    np.testing.assert_allclose(found[awd_lstm.TABLE], GOLDEN["matched/weight"], rtol=1e-6)
    np.testing.assert_allclose(found[awd_lstm.BIAS], GOLDEN["matched/bias"], rtol=1e-5)
    with pytest.raises(UserError, match="vocabulary has 5 words, and the weights are of 12"):
        match_words(variables(), "abcde", "ab")
