r"""VTAB-1k (Zhai et al. 2019, arXiv:1910.04867): 19 tasks, 800 examples to train, 200 to choose by.

    python -m experiments.prepare --config=configs/protocols/vtab.py
    python -m experiments.scenarios --config=configs/protocols/vtab.py

Each task is fine-tuned with two rates and two lengths (the light sweep), in batches of 512, with
SGD of momentum 0.9, the rate divided by ten after 30, 60 and 90 % of the steps. Validation
chooses one of the four for each task, and that one alone is tested. ResNet-50 should have these
means in percent (google-research/task_adaptation, docs/data/results.csv):

                            all 19   natural   specialised   structured
    supervised on ImageNet  66.4     73.5      82.5          52.1
    from scratch            43.1     27.9      68.9          43.6

Labels, splits and groups of labels are those of google-research/task_adaptation. What differs:
another training of ResNet-50; TFDS's newest versions; the best settings are not trained again on
all 1,000 examples. Half of the datasets need TensorFlow to be prepared, some need other packages,
or files that one fetches by hand: the program says which.
"""

from configs import scenarios

NATURAL = ("caltech101", "cifar100", "dtd", "flowers", "pets", "sun397", "svhn")
SPECIALISED = ("camelyon", "eurosat", "resisc45", "retinopathy")
STRUCTURED = (
    *("clevr_count", "clevr_distance", "dmlab", "dsprites_location", "dsprites_orientation"),
    *("kitti_distance", "smallnorb_azimuth", "smallnorb_elevation"),
)
# By task: the TFDS dataset, what val and test are, and other options. Val begins where
# task_adaptation ends its whole training split.
TASKS = {
    "caltech101": ("caltech101", "train[2753:2953]", "test", {}),
    "cifar100": ("cifar100", "train[45000:45200]", "test", {}),
    "dtd": ("dtd", "validation[:200]", "test", {}),
    "flowers": ("oxford_flowers102", "validation[:200]", "test", {}),
    "pets": ("oxford_iiit_pet", "train[2944:3144]", "test", {}),
    "sun397": ("sun397/tfds", "validation[:200]", "test", {}),
    "svhn": ("svhn_cropped", "train[65931:66131]", "test", {}),
    "camelyon": ("patch_camelyon", "validation[:200]", "test", {}),
    "eurosat": ("eurosat/rgb", "train[16200:16400]", "train[80%:]", {}),
    "resisc45": ("resisc45", "train[18900:19100]", "train[80%:]", {}),
    "retinopathy": (
        "diabetic_retinopathy_detection/btgraham-300", "validation[:200]", "test", {},
    ),
    "clevr_count": ("clevr", "train[63000:63200]", "validation", {"label": "clevr_count"}),
    "clevr_distance": ("clevr", "train[63000:63200]", "validation", {"label": "clevr_distance"}),
    "dmlab": ("dmlab", "validation[:200]", "test", {}),
    "dsprites_location": (
        "dsprites", "train[589824:590024]", "train[90%:]",
        {"label": "dsprites_location", "white": 1},
    ),
    "dsprites_orientation": (
        "dsprites", "train[589824:590024]", "train[90%:]",
        {"label": "dsprites_orientation", "white": 1},
    ),
    "kitti_distance": ("kitti", "validation[:200]", "test", {"label": "kitti_distance"}),
    "smallnorb_azimuth": ("smallnorb", "test[:200]", "test[50%:]", {"label": "label_azimuth"}),
    "smallnorb_elevation": ("smallnorb", "test[:200]", "test[50%:]", {"label": "label_elevation"}),
}  # fmt: skip
RATES, STEPS = (0.1, 0.01), (2_500, 10_000)


def get_config():
    config = scenarios.get_config()
    for name, (dataset, val, test, options) in TASKS.items():
        splits = {"train": "train[:800]", "val": val, "test": test}
        own = {"name": f"tfds:{dataset}", "data_dir": "", "splits": splits}
        config.tasks[name] = own | options
    config.bases.resnet50 = scenarios.base("resnet50", weights="torchvision:IMAGENET1K_V1")
    config.bases.resnet50.crop = 1.0
    config.seeds = 1
    config.draws = 1
    config.settings = {"batch_size": 512, "dropout": 0.0, "head": "zero"}
    config.settings.tune = {"optimizer": "sgd(nesterov=False)", "weight_decay": 0.0, "clip": 0.0}
    # 80 of 2,500 steps
    config.settings.tune.schedule = "step(at=(0.3, 0.6, 0.9), warmup=0.032)"
    config.settings.tune.update({"batch_norm": "batch", "best_by": "last"})
    sweep = tuple(
        {"tune": {"learning_rate": rate, "epochs": steps}}
        for rate in RATES
        for steps in STEPS  # a batch is an epoch: 800 examples have room for one of 512
    )
    config.plans.full = scenarios.plan("full", sweep)
    config.reference = "full"
    return config.lock()
