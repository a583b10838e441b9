"""Train a detector on any base by a config, and report what it finds on test.

    python -m experiments.detect --config=configs/detect_small.py
    python -m experiments.detect --config=configs/detect.py --config.task.name=coco:mine.json
    python -m experiments.detect --config=configs/detect_small.py --config.plan=from_scratch \\
        --workdir=runs/scratch

All settings of a transfer hold; --config.objective is fcos or fast_rcnn. The same command again
resumes what was interrupted, or shows the result. `python -m experiments.predict --run=runs/mine
photo.jpg` says what the detector finds.
"""

from absl import flags

from experiments import cli, config_flag, together, transfer

flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(together)

if __name__ == "__main__":
    run = config_flag.by_config(transfer.transfer, example="configs/detect_small.py")
    cli.run(run, trains=True, several=True)
