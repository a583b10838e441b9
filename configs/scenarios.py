"""What every study of scenarios has in common: no grid yet. The other scenarios configs fill it."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.tasks = ml_collections.ConfigDict()  # by name: a task's name and options
    config.bases = ml_collections.ConfigDict()  # by name: base, weights, size, crop, channels
    config.budgets = (0,)  # training examples a class, validation in proportion; 0: all
    config.seeds = 5  # splits drawn anew, each with a training of its own
    config.first_seed = 0
    # By name: a transfer's settings, and the `space` of those that are drawn, or a list of settings
    # that are all tried (a grid); or a `probe`
    # (logistic, linear_svm, neighbours, class_means, ..., head2toe) on `features` (base, of its
    # `layer` in `views`; pixels or hog)
    config.plans = ml_collections.ConfigDict()
    config.reference = "from_scratch"  # the plan that the others are compared with
    config.draws = 2  # of each plan's settings, the best on validation tested
    config.metric = "accuracy"  # or weighted_accuracy
    # steps that every plan makes at the least, spread evenly over its phases: more epochs at small
    # budgets, of a few batches each
    config.least_steps = 0
    config.margin = 0.0  # share of accuracy that counts as nothing
    config.settings = ml_collections.ConfigDict()  # of all transfers, below the plans' own
    config.cache = ".cache"
    return config


def base(name: str, **changes) -> ml_collections.ConfigDict:
    """A base of the grid."""
    own = {"base": name, "weights": "", "size": 0, "crop": 0.0, "channels": 0}
    return ml_collections.ConfigDict(own | changes)


def plan(name: str, space: dict | tuple | None = None, **changes) -> ml_collections.ConfigDict:
    """A plan of the grid: settings of a transfer that are not the defaults, and its space."""
    return ml_collections.ConfigDict({"plan": name, **changes, "space": space or {}})
