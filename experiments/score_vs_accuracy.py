"""How well transferability scores rank bases and cuts by what transfer really gives.

    python -m experiments.score_vs_accuracy --config=configs/score_vs_accuracy.py

A candidate is a base cut at a layer. For each: the scores on its features of the training split;
and its accuracy on the test split, with a linear head on frozen features and after fine-tuning.
Then how well each score agrees with each accuracy. The same command again goes on after the last
finished candidate.
"""

from absl import flags

from experiments import cli, study

flags.adopt_module_key_flags(study)

if __name__ == "__main__":
    cli.run(study.program("score_vs_accuracy"), trains=True)
