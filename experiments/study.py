"""A study of one's own images: the data, every layer, advice, the best plans, a trained network.

    python -m experiments.study my_photos/
    python -m experiments.study my_photos/ --quick

The folder has a sub-folder for each class. Read the answer in report.html; the network is in the
folder model, for `python -m experiments.predict --run=.../model photo.png`. The same command goes
on after an interruption. --quick takes one base, small images and two plans.
"""

from absl import flags

from experiments import cli, images_flags, workdir_flag

flags.adopt_module_key_flags(images_flags)
flags.adopt_module_key_flags(workdir_flag)


def main(argv: list[str]) -> None:
    images_flags.answered("study", argv)


if __name__ == "__main__":
    cli.run(main, trains=True)
