"""Learning-rate schedules and optimizers: open lists of functions, whose parameters are settings.

A schedule is a function (peak, steps, **options) -> optax schedule over the steps of a phase; an
optimizer a function (**options) -> optax transformation that gives the direction of steepest
ascent, scaled: the phase's rate, sign and weight decay come after it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax import registry
from tl_jax.errors import UserError, takes

SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {}
PROBED = 100  # updates by which one sees where an optimizer goes
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {}


@registry.register(SCHEDULES, "schedule")
def constant(peak: float, steps: int) -> optax.Schedule:
    """The peak throughout."""
    return optax.constant_schedule(peak)


@registry.register(SCHEDULES, "schedule")
def cosine(peak: float, steps: int) -> optax.Schedule:
    """From the peak to 0 (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5)."""
    return optax.cosine_decay_schedule(peak, steps)


@registry.register(SCHEDULES, "schedule")
def warmup_cosine(peak: float, steps: int, *, warmup: float = 0.1) -> optax.Schedule:
    """From 0 to the peak over a share `warmup` of the steps, then to 0."""
    rising = _share("warmup", warmup, steps)
    return optax.warmup_cosine_decay_schedule(0.0, peak, rising, max(steps, rising + 1))


@registry.register(SCHEDULES, "schedule")
def step(
    peak: float,
    steps: int,
    *,
    at: tuple[float, ...] = (0.5, 0.75),
    factor: float = 0.1,
    warmup: float = 0.0,
) -> optax.Schedule:
    """The peak, times `factor` after each share `at` of the steps (He et al. 2016).

    Over a first share `warmup` of the steps it rises in proportion to the step.
    """
    takes(isinstance(at, list | tuple), "step: at=", "shares of the steps, as (0.5, 0.75)", at)
    takes(factor >= 0, "step: factor=", "a number from 0 on", factor)
    falls = {_share("at", share, steps): factor for share in at}
    falling = optax.piecewise_constant_schedule(peak, falls)
    if not warmup:
        return falling
    rising = _share("warmup", warmup, steps)
    return lambda step: falling(step) * jnp.minimum(step / rising, 1.0)


@registry.register(SCHEDULES, "schedule")
def polynomial(
    peak: float, steps: int, *, power: float = 1.0, end: float = 0.0
) -> optax.Schedule:
    """end + (peak - end) (1 - step / steps)^power: linear by default; `end` is a rate."""
    return optax.polynomial_schedule(peak, end, power, steps)


@registry.register(SCHEDULES, "schedule")
def one_cycle(peak: float, steps: int) -> optax.Schedule:
    """Smith & Topin 2018 (arXiv:1708.07120): up from 1/25 of the peak, down to 1e-4 of that."""
    return optax.cosine_onecycle_schedule(steps, peak)


@registry.register(SCHEDULES, "schedule")
def slanted_triangular(
    peak: float, steps: int, *, cut: float = 0.1, ratio: float = 32.0
) -> optax.Schedule:
    """Howard & Ruder 2018 (arXiv:1801.06146), eq. 3: up over a share `cut` of the steps, then down;
    the lowest rate is 1 / `ratio` of the peak.
    """
    top = _share("cut", cut, steps)
    if not ratio >= 1:
        raise UserError(f"ratio is at least 1; got {ratio}")

    def rate(step: Any) -> Any:
        down = 1 - (step - top) / (top * (1 / cut - 1))
        p = jnp.where(step < top, step / top, jnp.maximum(down, 0))
        return peak * (1 + p * (ratio - 1)) / ratio

    return rate


@registry.register(SCHEDULES, "schedule")
def dann(peak: float, steps: int, *, gamma: float = 10.0, power: float = 0.75) -> optax.Schedule:
    """peak (1 + gamma p)^-power at the share p of the steps (Ganin et al. 2016, arXiv:1505.07818,
    section 5.2.2); SHOT's too.
    """
    return tllib(peak, steps, gamma=gamma / steps, power=power)


@registry.register(SCHEDULES, "schedule")
def tllib(peak: float, steps: int, *, gamma: float = 0.001, power: float = 0.75) -> optax.Schedule:
    """peak (1 + gamma i)^-power at the step i of the phase, however many there are, as in TLlib:
    gamma is 0.001 for its DANN, CDAN and MCC, 0.0003 for DAN, JAN and ADDA, 0.0002 for MDD.
    """
    return lambda step: peak * (1 + gamma * step) ** -power


@registry.register(OPTIMIZERS, "optimizer")
def adamw(*, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980); the phase's weight decay makes it AdamW."""
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


@registry.register(OPTIMIZERS, "optimizer")
def sgd(*, momentum: float = 0.9, nesterov: bool = True) -> optax.GradientTransformation:
    """Stochastic gradient descent with (Nesterov's) momentum."""
    return optax.trace(decay=momentum, nesterov=nesterov)


def schedule(spec: str | Callable[..., Any], peak: float, steps: int) -> optax.Schedule:
    """The schedule that `spec` says: a name, "name(option=1)", or a function (peak, steps)."""
    if callable(spec):
        return spec(peak, steps)
    function, options = registry.chosen("schedule", spec, SCHEDULES)
    return function(peak, steps, **options)


def direction(spec: str | optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer that `spec` says, as one that gives directions of ascent.

    A transformation of the user's own may give ascents (optax.scale_by_lion()) or, like every
    complete optimizer (optax.lion(1e-3)), descents, which are turned round.
    """
    if isinstance(spec, optax.GradientTransformation):
        return optax.chain(spec, optax.scale(-1.0)) if descends(spec) else spec
    function, options = registry.chosen("optimizer", spec, OPTIMIZERS)
    return function(**options)


@functools.lru_cache
def descends(transformation: optax.GradientTransformation) -> bool:
    """Whether its updates point against the gradient, as those do that one adds."""
    with jax.ensure_compile_time_eval():  # a step that is being traced may ask
        one = {"kernel": jnp.ones((2, 2))}
        state = transformation.init(one)
        for _ in range(PROBED):  # the first of a warm-up are 0
            updates, state = transformation.update(one, state, one)
            (moved,) = jax.tree.leaves(updates)
            if total := float(moved.sum()):
                return total < 0
    raise UserError(f"the optimizer moves nothing in its first {PROBED} steps")


def require(spec: Any, kind: str) -> None:
    """UserError if a phase's `schedule` or `optimizer` is none."""
    if kind == "schedule" and not callable(spec):
        schedule(spec, 1.0, 10)
    if kind == "optimizer" and not isinstance(spec, optax.GradientTransformation):
        direction(spec)


def _share(name: str, value: float, steps: int) -> int:
    if not 0 < value < 1:
        raise UserError(f"{name} is a share of the steps above 0 and below 1; got {value}")
    return max(1, int(value * steps))
