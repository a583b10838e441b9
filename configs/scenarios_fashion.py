r"""Dresses, coats and shirts (Fashion-MNIST) from bases pretrained on other classes and digits.

The bases are the small AlexNet, trained from fresh weights (a minute each):

    base="python -m experiments.transfer --config=configs/fashion_base.py"
    $base --workdir=runs/fashion_tops --config.task.only="('T-shirt', 'Trouser', 'Pullover')"
    $base --workdir=runs/fashion_shoes \
        --config.task.only="('Sandal', 'Sneaker', 'Bag', 'Ankle boot')"
    $base --workdir=runs/fashion_digits --config.task.name=digits --config.tune.epochs=30
    python -m experiments.scenarios --config=configs/scenarios_fashion.py
"""

from configs import scenarios

HEAD = {"train_head": {"learning_rate": "log(3e-3, 3e-1)"}}
TUNE = {"tune": {"learning_rate": "log(3e-3, 1e-1)"}}


def get_config():
    config = scenarios.get_config()
    target = ("Dress", "Coat", "Shirt")
    config.tasks.fashion = {"name": "fashion_mnist", "only": target, "val": 0.1}
    for source in ("tops", "shoes", "digits"):
        config.bases[source] = scenarios.base(f"runs/fashion_{source}")
    config.budgets = (5, 20, 80, 300)
    config.least_steps = 120
    config.settings = {"dropout": 0.0, "batch_size": 32}
    config.settings.train_head = {"epochs": 5, "optimizer": "sgd", "best_by": "last"}
    config.settings.tune = dict(config.settings.train_head, weight_decay=5e-4, epochs=10)
    plans, plan = config.plans, scenarios.plan
    plans.pixels_svm = {"probe": "rbf_svm", "features": "pixels"}
    plans.cnn_svm = {"probe": "linear_svm"}
    plans.logistic = {"probe": "logistic"}
    plans.class_means = {"probe": "class_means"}
    plans.head2toe = {"probe": "head2toe"}
    plans.head_only = plan("head_only", HEAD)
    plans.full = plan("head_then_fine_tune", TUNE, from_layer="conv1")
    plans.full_l2_sp = plan("head_then_fine_tune", TUNE, from_layer="conv1")
    plans.full_l2_sp.objective = "cross_entropy+l2_sp"
    plans.top = plan("head_then_fine_tune", TUNE, from_layer="conv4")
    plans.discriminative = plan("discriminative", TUNE, from_layer="conv1", factor=2.6, by="layer")
    plans.first_block = plan("one_block", TUNE, block="conv1:conv2")
    plans.redrawn = plan("redrawn", TUNE)
    plans.from_scratch = plan("from_scratch", TUNE)
    return config.lock()
