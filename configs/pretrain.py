"""What every pretraining without labels has in common: SimCLR on a ResNet-18; no task yet.

python -m experiments.pretrain --config=configs/pretrain.py --config.task.path=photos
"""

from configs import defaults
from tl_jax.runs import settings


def get_config():
    config = defaults.subject()
    del config.task.per_class  # there are no labels to count
    config.images = 0  # training images at most, drawn by the seed; 0: all
    config.base = "resnet18"
    config.weights = "random:0"
    config.cut = ""  # the layer whose output is learnt as features; empty: below the classifier
    # rotation, exemplar, jigsaw(grid=3, permutations=100, hidden=512),
    # simclr(temperature=0.2, hidden=2048, width=256), moco(queue=4096, rate=0.004),
    # byol(rate=0.004), simsiam(narrow=512), vicreg(invariance=25, variance=25, covariance=1),
    # barlow_twins(others=0.005, scale=0.1), dino(prototypes=4096, temperature=0.04, rate=0.004),
    # masked(patch=4, share=0.6), for which a cut at maps is best, slowness(step=2, motion=1)
    config.objective = "simclr"
    config.seed = 0
    config.batch_size = 256
    config.precision = "float32"  # of activations: float32 or bfloat16
    config.parallel = "jit"  # over several devices; pmap shows each a part of a batch
    config.checkpoint_seconds = 30.0
    config.tune = settings.phase_defaults("tune")
    # Of the views too: rotation, jigsaw, masked and slowness do without an augmentation
    config.tune.update({"augment": "crop(0.2)+flip+jitter", "batch_norm": "batch"})
    config.tune.update({"epochs": 100, "learning_rate": 1e-3, "schedule": "warmup_cosine"})
    config.tune.best_by = "last"
    return config
