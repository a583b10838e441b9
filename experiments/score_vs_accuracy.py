"""How well do transferability scores rank bases and cuts by their accuracy after transfer?

    python -m experiments.score_vs_accuracy --config=configs/score_vs_accuracy.py

A candidate is a base cut at a layer. The study computes its scores on features of the training
split, and its accuracy on the test split with a linear head on frozen features and after
fine-tuning. Then it measures how well each score agrees with each accuracy. The same command again
resumes after the last finished candidate.
"""

from absl import flags

from experiments import cli, config_flag

flags.adopt_module_key_flags(config_flag)

if __name__ == "__main__":
    cli.run(config_flag.program("score_vs_accuracy"), trains=True)
