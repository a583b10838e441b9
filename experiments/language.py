"""Train a language model, or fine-tune one, on the texts of a task; or let one go on from a prompt.

    python -m experiments.language --config=configs/language_small.py
    python -m experiments.language --config=configs/language.py --config.task.name=plain:mine.txt \\
        --config.base=runs/language_small
    python -m experiments.language --run=runs/language_small --prompt="The function" [--tokens=40]

The same command again resumes what was interrupted, or shows the result. What a run gives is a
base, of which `python -m experiments.transfer --config=configs/text_small.py
--config.base=runs/mine` makes a classifier.
"""

import pathlib

from absl import flags

from experiments import cli, config_flag
from tl_jax.errors import UserError

flags.adopt_module_key_flags(config_flag)
_RUN = flags.DEFINE_string("run", None, "A finished run, which goes on from --prompt.")
_PROMPT = flags.DEFINE_string("prompt", "", "The beginning of a text.")
_TOKENS = flags.DEFINE_integer("tokens", 40, "Words that are drawn.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Of the draw: less is surer.", 1e-3)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draw.", lower_bound=0)


def main(argv: list[str]) -> None:
    if _RUN.value is None:
        return config_flag.by_config(_train, example="configs/language_small.py")(argv)
    from tl_jax.base import generation  # these import JAX, which --help does without
    from tl_jax.base.load import load_base

    cli.no_arguments(argv)
    if flags.FLAGS.config is not None:
        raise UserError("--run is trained already: leave --config out")
    how = {"tokens": _TOKENS.value, "temperature": _TEMPERATURE.value, "seed": _SEED.value}
    print(generation.continued(load_base(pathlib.Path(_RUN.value)), _PROMPT.value, **how))


def _train(config, workdir: pathlib.Path, name: str) -> dict:
    from tl_jax.runs import language

    result, before = language.by_config(config, workdir, name=name)
    print(language.said(result))
    print(f"{'done before' if before else 'model'}: {workdir / 'model.safetensors'}")
    return result


if __name__ == "__main__":
    cli.run(main, trains=True)
