"""Probe each layer of a base: how accurate are simple classifiers, and with how many labels?

    python -m experiments.layer_probes --config=configs/layer_probes.py

Finished cells (a layer, a budget, a seed) are stored: the same command again resumes with the rest.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("layer_probes"))
