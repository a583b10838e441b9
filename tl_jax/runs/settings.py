"""Every setting of a transfer: one definition, from which the configs are derived.

Imports no JAX, so that a program can show its flags at once.
"""

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any

from tl_jax import registry
from tl_jax.errors import takes, takes_types, unknown
from tl_jax.plans import strategies as plans
from tl_jax.plans.plan import Settings

# What the phases of a plan begin from, by the parameter of the plan that takes their settings
PHASES: dict[str, dict[str, Any]] = {"train_head": {}, "tune": {"learning_rate": 1e-4}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """How to transfer a base to a task; the plan's own options come beside them."""

    # head_only, head_then_fine_tune, fine_tune_top, discriminative, gradual_unfreezing, one_block,
    # chain_thaw, norms_only, biases_only, adapters_only, features_only, full, full_discriminative,
    # from_scratch, redrawn; from Python a Plan, or a function that makes one, too
    plan: Any = "head_then_fine_tune"
    cut: str = ""  # the last layer kept; empty: the bottleneck, below the classifier
    # beside the base's kernels, merged into them at the end: lora(rank=4), parallel; empty: none
    adapters: str = ""
    # linear, zero, cosine(scale=10), vgg_head(hidden=4096), bottleneck(features=256), concat_pool;
    # kept: the base's own, for a task of the same classes; of captions:
    # show_and_tell(features=256), pair(features=128, text=0)
    head: str = "linear"
    # whose vectors of words a head of captions begins with: a base of texts by name, as
    # word_vectors, or by path, as a language model's run; or a file of vectors; empty: fresh ones
    words_from: str = ""
    dropout: float = 0.2  # of the head
    # cross_entropy(smoothing=0.1), averaged(rate=0.01), delta(alpha=0.01, beta=0.01),
    # co_tuning(weight=2.3), ...; with a budget of labels (task.per_class) pseudo_label, pi_model,
    # mean_teacher, fix_match(weak="", strong="randaugment"), flex_match; of captions
    # captions(beam=3, length=0) or contrastive(encoder=""); with terms added as
    # cross_entropy+l2_sp(alpha=0.01, beta=0.01)+bss(eta=0.001)+lwf(weight=4, temperature=3); from
    # Python any Objective
    objective: Any = "cross_entropy"
    # of training examples in the loss: balanced, N / (C n) for n of N examples in one of C classes;
    # empty: 1
    class_weights: str = ""
    # the last block's probability of leaving its residual branch out in training; it grows linearly
    # with depth (Huang et al. 2016, arXiv:1603.09382)
    stochastic_depth: float = 0.0
    drop_mult: float = 1.0  # times every rate of dropout, of the base's own layers as well
    seed: int = 0  # of fresh weights, order, views, augmentation and dropout
    batch_size: int = 32
    test_views: str = "none"  # views over which the final probabilities are averaged
    precision: str = "float32"  # of activations: float32 or bfloat16
    parallel: str = "jit"  # over several devices: jit, pmap, or fsdp, which spreads weights as well
    # folder of what is computed once: pixels, features; empty: none
    cache: str | os.PathLike | None = ".cache"
    cache_dtype: str = "float32"  # float16 and bfloat16 take half the disk
    # of activations in frozen layers while their outputs are computed for the cache: float32, or
    # bfloat16 on GPUs, TPUs and CPUs with AVX-512 BF16 or AMX, which are faster so
    cache_precision: str = "float32"
    checkpoint_seconds: float = 30.0  # work that a kill may cost

    def __post_init__(self):
        takes_types(self)
        if self.class_weights not in ("", "balanced"):
            raise unknown("class_weights", self.class_weights, ["balanced"])


def defaults() -> dict[str, Any]:
    """Every setting with its default, as a config has it: the phases' are dictionaries."""
    found = {field.name: field.default for field in dataclasses.fields(TransferSettings)}
    for name, default in plans.options().items():
        if name in PHASES:
            found[name] = phase_defaults(name)
        else:
            found[name] = "" if default is inspect.Parameter.empty else default
    return found


def phase_defaults(name: str) -> dict[str, Any]:
    """The settings of a phase, with those that its place in a plan changes."""
    own = {field.name: field.default for field in dataclasses.fields(Settings)}
    return own | PHASES[name]


def divided(given: Mapping[str, Any]) -> tuple[TransferSettings, dict[str, Any]]:
    """Settings and the plan's options from keywords; UserError, with the near miss, for others.

    Phases may be given as `Settings`, or as a mapping of those that differ from the defaults.
    """
    own = {field.name for field in dataclasses.fields(TransferSettings)}
    settings = TransferSettings(**{k: v for k, v in given.items() if k in own})
    options = {k: v for k, v in given.items() if k not in own}
    known = plan_options(settings.plan)
    for name in options:
        if name not in known and name not in plans.options():
            raise unknown("setting", name, [*own, *known])
    for name in PHASES:
        options[name] = phase(name, options.get(name, {}))
    return settings, options


def plan_options(plan: Any) -> list[str]:
    """Names of the settings of a plan's strategy; of all strategies where it is none."""
    if callable(plan):
        return [name for name in inspect.signature(plan).parameters if name not in plans.GIVEN]
    return list(plans.options())


def phase(name: str, given: Settings | Mapping[str, Any]) -> Settings:
    """A phase's settings; UserError, with the near miss, for an unknown one."""
    if isinstance(given, Settings):
        return given
    takes(isinstance(given, Mapping), f"{name}=", "Settings, or a mapping of some of them", given)
    fields = phase_defaults(name)
    registry.require_options(name, given, fields)
    return Settings(**{**fields, **given})


def signature() -> inspect.Signature:
    """What `transfer` takes by keyword, for help and completion."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter("base", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("workdir", keyword, default=None),
            inspect.Parameter("sources", keyword, default=None),
            *(
                inspect.Parameter(name, keyword, default=value)
                for name, value in defaults().items()
            ),
        ]
    )
