"""How transferable is each layer? Yosinski et al. 2014 for any net and any task, from one config.

    python -m experiments.layer_transfer --config=configs/layer_transfer.py

Every setting is in configs/layer_transfer.py. Finished trainings are stored: the same command again
resumes with those that are missing. With --check=500 nothing is trained and no data are read: the
steps of streamed trainings (config.together=False) are compiled for a target of 500 classes, and
their cost is counted.
"""

from absl import flags

from experiments import cli, config_flag
from tl_jax.errors import UserError, takes_whole

flags.adopt_module_key_flags(config_flag)
_CHECK = flags.DEFINE_integer(
    "check", None, "Only compile the steps for this number of classes, and count their cost."
)


def main(argv: list[str]) -> None:
    if _CHECK.value is None:
        return config_flag.program("layer_transfer")(argv)
    cli.no_arguments(argv)
    if flags.FLAGS.config is None:
        raise UserError("check what? --config=configs/layer_transfer_imagenet.py, for example")
    return check(flags.FLAGS.config, _CHECK.value)


def check(config, classes: int) -> None:
    """Print the cost of a step by the number of frozen layers."""
    takes_whole(classes, "--check", 1, 10**6)
    from tl_jax.studies.layer_transfer.net import Net
    from tl_jax.studies.layer_transfer.streamed import step_flops

    net = Net(config)
    print(f"{config.base}, batches of {config.batch_size}, {classes} classes, {config.precision}")
    for n, stop in [(0, None), *((n, stop) for n, (_, stop) in net.cuts.items())]:
        flops = step_flops(config, net, classes, stop)
        each = flops / config.batch_size
        print(
            f"{n} frozen: {flops / 1e9:9.1f} GFLOP a step, {each / 1e9:6.3f} an image", flush=True
        )


if __name__ == "__main__":
    cli.run(main, trains=True)
