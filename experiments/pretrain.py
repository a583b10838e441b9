"""Train a base on images without labels, by a self-supervised objective.

    python -m experiments.pretrain --config=configs/pretrain_digits.py
    python -m experiments.pretrain --config=configs/pretrain.py --config.task.path=photos \\
        --config.objective="moco(queue=2048)" --workdir=runs/moco

The same command again resumes what was interrupted, or shows the result. What a run gives is a
base for the other programs: with --config=configs/layer_probes_digits.py (experiments.layer_probes)
or --config=configs/digits.py (experiments.transfer), --config.base=runs/moco --config.weights="".
"""

import pathlib

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)


def pretrain(config, workdir: pathlib.Path, name: str) -> dict:
    """Train in `workdir`; print what came of it, and return the result."""
    from tl_jax.runs import pretrain as runs  # imports JAX, which --help does without

    result, before = runs.by_config(config, workdir, name=name)
    print(runs.said(result))
    print(f"{'done before' if before else 'model'}: {workdir / 'model.safetensors'}")
    return result


if __name__ == "__main__":
    cli.run(config_flag.by_config(pretrain, example="configs/pretrain_digits.py"), trains=True)
