"""A detector on EfficientNet-Lite0, cut where a position is 16 pixels: your own boxes.

    python -m experiments.detect --config=configs/detect.py --config.task.name=coco:mine.json

First the head learns on the frozen base, whose output is computed once; then the upper layers learn
with it. objective=fast_rcnn takes proposals instead (selective search, or windows); plan=head_only
and plan=from_scratch are the ends between which it lies.
"""

import ml_collections

from configs import defaults


def get_config():
    config = defaults.get_config().unlock()
    config.size = 224
    config.cut = "stage5_block3"
    config.objective = "fcos"
    config.head = "fcos(also='stage3_block2')"  # positions of 8 pixels, which see what the cut sees
    config.task = ml_collections.ConfigDict()
    config.task.name = ""  # coco:<json>, voc:<folder>, packaged:tree_crowns, composed:<what>
    config.task.val, config.task.test = 0.1, 0.25
    config.task.labelled = 0  # budget: images with boxes to learn from, val in proportion; 0: all
    config.batch_size = 8
    config.dropout = 0.0
    config.plan = "head_then_fine_tune"
    config.from_layer = "stage4_block1"
    config.train_head.epochs, config.train_head.learning_rate = 10, 3e-3
    config.tune.epochs, config.tune.learning_rate = 10, 1e-3
    return config.lock()
