"""Train a network, grow it wider and deeper, and let it learn beside others from scratch.

    python -m experiments.grow --config=configs/grow_digits.py [--config.share=0.3]

The same command again goes on with the next student, or shows the result. The teachers are in
teacher_<seed>.safetensors, which other programs read as --config.base.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)


def main(argv: list[str]) -> None:
    run = config_flag.by_config(
        lambda *given: config_flag.run("grow", *given), example="configs/grow_digits.py"
    )
    run(argv)


if __name__ == "__main__":
    cli.run(main, trains=True)
