"""Which layers does learning without labels make general? Yosinski's curve for the bases of
configs/pretrain_fashion.py, with 100, 10 and 1 labels of each class of Fashion-MNIST.

    for seed in 0 1 2 3 4; do
        python -m experiments.pretrain --config=configs/pretrain_fashion.py \
            --config.base=resnet_small --config.images=0 --config.tune.epochs=10 \
            --config.seed=$seed --config.weights=random:$seed --workdir=runs/fashion/simclr/$seed
    done
    python -m experiments.layer_transfer --config=configs/layer_transfer_unlabelled.py

Base A of each seed is in a file, and B is the whole task. docs/beyond/self_supervision.md has what
five seeds found, and the commands of the other bases.
"""

import ml_collections

from configs import layer_transfer

METHODS = ("supervised", "simclr", "rotation")


def get_config():
    config = layer_transfer.get_config()
    config.groups = ml_collections.ConfigDict()
    config.base = "resnet_small"
    config.task.per_class = 0
    config.arms = METHODS
    with config.unlocked():
        for name in METHODS:
            config.bases[name] = f"runs/fashion/{name}/{{seed}}"
    config.layers = ("stem", "stage1_block2", "stage2_block2", "stage3_block2")  # ends of stages
    config.budgets = (100, 10, 1)
    config.epochs = (15, 50, 100)
    # The best of 0.01, 0.05, 0.2 and 0.5 for a network from fresh weights with 10 labels a class,
    # by base B's accuracy on validation (two seeds)
    config.train.learning_rate = 0.2
    config.batch_size = 32
    return config
