"""Pictures of EfficientNet-Lite0's features of solar cells (ELPV).

    python -m experiments.look --config=configs/look.py
    python -m experiments.look --config=configs/look.py --workdir=runs/look_mine \\
        --config.image=photo.png --config.layer=stage5_block3 --config.channel=17

It takes 29 s on 2 cores, with features stored by an earlier run and with UMAP's compilation
(2026-11-26, Python 3.11.7, jax 0.10.2, umap-learn 0.5.12). The 8 images that excite channel 1244
of `top` most are all functional; those of channel 1096 are all defective.
"""

from configs import defaults


def get_config():
    config = defaults.subject()
    config.weights = "pip:efficientnet-lite0"
    config.crop = 1.0
    config.task.name = "elpv"
    config.image = ""  # to draw feature maps of; empty: the first of the task's last class
    config.layer = ""  # to show channels and features of; empty: the highest with maps
    config.channel = -1  # of the layer, from 0; -1: the ones most correlated with a class
    config.maps = ("tsne", "umap")  # embeddings of the layer's features: any of these
    config.seed = 0  # of the embeddings
    return config.lock()
