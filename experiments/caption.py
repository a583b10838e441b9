"""Train a captioner, or a comparison of images with texts, on any base by a config.

    python -m experiments.caption --config=configs/caption_small.py
    python -m experiments.caption --config=configs/captions.py --config.task.name=captions:mine.csv
    python -m experiments.caption --config=configs/pairs_small.py

All settings of a transfer hold; --config.objective is captions or contrastive. The same command
again resumes what was interrupted, or shows the result. `python -m experiments.predict
--run=runs/mine photo.jpg` tells a caption of a photo.
"""

from absl import flags

from experiments import cli, config_flag, together, transfer

flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(together)

if __name__ == "__main__":
    run = config_flag.by_config(transfer.transfer, example="configs/caption_small.py")
    cli.run(run, trains=True, several=True)
