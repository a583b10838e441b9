"""Solar cells: whether defective, mono- or polycrystalline, and whether the raters were sure.

    python -m experiments.multitask --config=configs/multitask_elpv.py

EfficientNet-Lite0 at 96 pixels, its stages up to the fifth frozen, so that these run once. Defects
are what raters called likely (p above one half); the type of a cell is seen at a glance; confidence
asks which cells the raters doubted.
"""

from configs import multitask


def get_config():
    config = multitask.get_config()
    config.size, config.crop = 96, 1.0
    config.task.name, config.task.targets = "elpv", "plain"
    config.task.truths = ("cell", "confidence")
    config.task.val, config.task.test = 0.1, 0.25
    config.settings.plan, config.settings.from_layer = "fine_tune_top", "stage6_block1"
    config.settings.cache_dtype = "float16"
    config.settings.tune = {"epochs": 10, "learning_rate": 1e-3, "batch_norm": "batch"}
    config.stitched_at = ("stage6_block4", "stage7_block1")
    config.variants.few_labels = {"labels": {"confidence": 0.1}}
    return config.lock()
