"""Pictures of what EfficientNet-Lite0 sees in solar cells (ELPV).

    python -m experiments.look --config=configs/look.py
    python -m experiments.look --config=configs/look.py --workdir=runs/look_mine \\
        --config.image=photo.png --config.layer=stage5_block3 --config.channel=17
"""

from configs import defaults


def get_config():
    config = defaults.subject()
    config.weights = "pip:efficientnet-lite0"
    config.crop = 1.0
    config.task.name = "elpv"
    config.image = ""  # whose feature maps are drawn; empty: the task's first of its last class
    config.layer = ""  # whose channels and features are shown; empty: the highest with maps
    config.channel = -1  # of the layer, counted from 0; -1: those that tell classes apart best
    config.maps = ("tsne", "umap")  # of the layer's features: any of these
    config.seed = 0  # of the maps
    return config.lock()
