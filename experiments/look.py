"""Draw a base: filters, feature maps, images that excite a channel, a map of a task.

    python -m experiments.look --config=configs/look.py
    python -m experiments.look --config=configs/look.py --config.image=photo.png \
        --config.layer=stage5_block3 --config.channel=17
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("look"))
