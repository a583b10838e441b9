"""Do labels in English help in German, French and Spanish, through one language model?

    python -m experiments.languages --config=configs/languages.py

The language model is trained first; the same command again resumes with the rest.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("languages"), trains=True)
