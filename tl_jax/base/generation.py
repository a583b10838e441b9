"""What a language model makes of the beginning of a text."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.base.base import Base
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known
from tl_jax.data.texts.preprocessing import SUBWORDS, TOKENS, TextPreprocessing
from tl_jax.data.texts.rules import CAPITAL, SPECIALS, UPPER
from tl_jax.data.texts.subwords import SPACE
from tl_jax.errors import UserError, takes, takes_type, takes_whole
from tl_jax.train.objectives import LanguageModel

CHANGES: dict[str, Callable[[str], str]] = {UPPER: str.upper, CAPITAL: str.capitalize}
NEVER = tuple(word for word in SPECIALS if word not in CHANGES)  # is drawn
CLOSING = re.compile(r"[.,;:!?)\]%]|n't$|'\w{0,2}$")  # stands right behind the word before


def continued(
    base: Base, prompt: str, *, tokens: int = 40, temperature: float = 0.8, seed: int = 0
) -> str:
    """The prompt, and so many tokens that the language model goes on with, drawn at random.

    Each is drawn from the probabilities to the power of 1 / `temperature`. To a backward model the
    prompt is the end, and what is drawn comes before it. UserError for a base that is no language
    model.
    """
    takes_whole(tokens, "tokens=", 0, 10_000)
    takes_type("temperature=", float, temperature)
    takes(temperature > 0, "temperature=", "a number above 0", temperature)
    expects = base.preprocessing
    if not isinstance(expects, TextPreprocessing) or "decode" not in base.layers:
        raise UserError(f"{base.name} is no language model: nothing can be continued")
    words = expects.words()
    (begun,) = expects.rows([prompt])
    if expects.backward and prompt:
        begun = begun[:-1]  # without the token that begins a text
    banned = jnp.array([word in NEVER or not word for word in words])
    read = functools.partial(_read, base.chain, base.variables)
    log_p, states = read(jnp.asarray(begun)[None], ())
    key = jax.random.key(seed)
    found = []
    for number in range(tokens):
        scaled = jnp.where(banned, -jnp.inf, log_p[0, -1, : len(words)] / temperature)
        token = jax.random.categorical(jax.random.fold_in(key, number), scaled)
        found.append(int(token))
        log_p, states = read(token[None, None], states)
    drawn = [words[number] for number in found]
    if expects.backward:
        before = whole(drawn[::-1]) if expects.rules == SUBWORDS else drawn[::-1]
        return f"{written(before)} {prompt}".strip()
    if expects.rules == SUBWORDS:
        return followed(prompt, drawn)
    return f"{prompt} {written(drawn)}".strip()


def followed(prompt: str, pieces: Sequence[str]) -> str:
    """Return the prompt and what subwords say, of which the first may go on with its last word."""
    goes_on = pieces and pieces[0] not in SPECIALS and not pieces[0].startswith(SPACE)
    return f"{prompt}{'' if goes_on else ' '}{written(whole(pieces))}".strip()


def whole(pieces: Sequence[str]) -> list[str]:
    """Return the words that subwords make: "xxmaj", "▁ber", "lin" are "xxmaj", "berlin"."""
    text = "".join(f" {piece} " if piece in SPECIALS else piece for piece in pieces)
    return text.replace(SPACE, " ").split()


def written(words: Sequence[str]) -> str:
    """Write tokens of fastai's as a text: "xxmaj it 's fine ." becomes "It's fine."."""
    text, change = "", str
    for word in words:
        if word in CHANGES:
            change = CHANGES[word]
        elif word not in SPECIALS:
            tight = not text or CLOSING.match(word)
            text += ("" if tight else " ") + change(word)
            change = str
    return text


@functools.partial(jax.jit, static_argnames="chain")
def _read(chain: Network, variables: Any, tokens: jax.Array, states: Any) -> tuple[Any, Any]:
    """Log-probabilities (1, T, V) of what comes after each token (1, T), and the states."""
    net = Net(chain, chain.combine(variables["params"]), variables["batch_stats"])
    return LanguageModel().predict(net, {"inputs": Known({TOKENS: tokens})}, states)
