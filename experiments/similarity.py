"""How similar are a base's layers to each other, to another base's, to its own after fine-tuning?

    python -m experiments.similarity --config=configs/similarity.py
    python -m experiments.similarity --config=configs/similarity.py --workdir=runs/similarity_elpv \
        --config.tuned=runs/elpv/model.safetensors
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("similarity"))
