"""The operations of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), each image its own.

Under `vmap` a switch runs every branch, so there is none. Four stages, of which an operation needs
one at most, do the work: a warp by a matrix for the geometric ones, a blend of the image with its
grey and its smoothed version for brightness to autocontrast, levels for solarize and posterize, a
table for equalize. A stage passes other images through, and is left out where no image needs it.
Ranges are torchvision's; the tonal operations agree with Pillow's.
"""

import jax
import jax.numpy as jnp
from jax import Array

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
# At full magnitude: degrees, slope, share of the side, change of a factor, bits taken away.
ROTATE, SHEAR, TRANSLATE, FACTOR, BITS = 30.0, 0.3, 150 / 331, 0.9, 4
FILL = 128.0  # where a warp finds no pixel: the grey of the authors' code
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's mode L


def operate(images: Array, which: Array, strength: Array) -> Array:
    """`images` (B, H, W, C) 0..255, each after operation number `which` (B,).

    `strength` (B,) is -1..1 of the most. Its sign is the direction of a warp, or less against more;
    it does not matter to others.
    """
    for names, stage in STAGES.items():
        needed = jnp.isin(which, jnp.asarray([NUMBER[name] for name in names])).any()
        # Saves the work where it can; always keeps XLA for CPUs from computing one stage's pixels
        # again for every consumer in the next.
        images = jax.lax.cond(needed, jax.vmap(stage), _same, images, which, strength)
    return images


def _same(images: Array, which: Array, strength: Array) -> Array:
    return images


def _chosen(table: dict[str, Array], which: Array, default: Array | float) -> Array:
    """The value of operation `which`, the default where the table lacks it."""
    return jnp.stack([table.get(name, default) for name in OPERATIONS])[which]


def _warp(rr=1.0, rc=0.0, r=0.0, cr=0.0, cc=1.0, c=0.0) -> Array:
    """(2, 3): the row and the column that are read, by row, column and 1, about the middle."""
    return jnp.stack([jnp.stack(jnp.broadcast_arrays(*row)) for row in ((rr, rc, r), (cr, cc, c))])


def _warps(shape: tuple[int, ...], strength: Array) -> dict[str, Array]:
    angle = jnp.deg2rad(ROTATE * strength)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return {
        "rotate": _warp(rr=cos, rc=sin, cr=-sin, cc=cos),
        "shear_x": _warp(cr=SHEAR * strength),
        "shear_y": _warp(rc=SHEAR * strength),
        "translate_x": _warp(c=TRANSLATE * strength * shape[1]),
        "translate_y": _warp(r=TRANSLATE * strength * shape[0]),
    }


def warped(image: Array, which: Array, strength: Array) -> Array:
    """Each pixel of (H, W, C) read where a matrix says, linearly; `FILL` outside.

    dm-pix's `affine_transform` gives the same, but interpolates over the channels too and indexes
    value by value, which takes many times as long.
    """
    height, width, channels = image.shape
    rows = jnp.arange(height)[:, None] - (height - 1) / 2
    columns = jnp.arange(width) - (width - 1) / 2
    (rr, rc, r), (cr, cc, c) = _chosen(_warps(image.shape, strength), which, _warp())
    row = rr * rows + rc * columns + r + (height - 1) / 2
    column = cr * rows + cc * columns + c + (width - 1) / 2
    near = 1e-3  # of a pixel: rounding must not put the edge of an unmoved image outside
    outside = (row < -near) | (row > height - 1 + near)
    outside |= (column < -near) | (column > width - 1 + near)
    row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
    top, left = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
    down, right = (row - top).reshape(-1, 1), (column - left).reshape(-1, 1)
    pixels = image.reshape(-1, channels)

    def at(i: Array, j: Array) -> Array:
        places = jnp.minimum(i, height - 1) * width + jnp.minimum(j, width - 1)
        return jnp.take(pixels, places.ravel(), axis=0, mode="clip")

    above = at(top, left) * (1 - right) + at(top, left + 1) * right
    below = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    mixed = (above * (1 - down) + below * down).reshape(image.shape)
    return jnp.where(outside[..., None], FILL, mixed)


def blended(image: Array, which: Array, strength: Array) -> Array:
    """own x image + grey x its grey + smooth x its smoothed version + plus; (H, W, C)."""
    channels = image.shape[-1]
    grey = (image * jnp.asarray(GREY)).sum(2, keepdims=True) if channels == 3 else image
    factor = 1 + FACTOR * strength
    low, high = image.min((0, 1)), image.max((0, 1))
    spread = jnp.where(high > low, 255 / jnp.where(high > low, high - low, 1), 1)
    contrast, full = (1 - factor) * jnp.round(grey.mean()), jnp.ones(channels)
    own = dict.fromkeys(("brightness", "contrast", "color", "sharpness"), factor * full)
    own = _chosen(own | {"autocontrast": spread}, which, full)
    plus = {"contrast": contrast * full, "autocontrast": jnp.where(high > low, -low * spread, 0)}
    plus = _chosen(plus, which, 0 * full)
    grey_share = _chosen({"color": 1 - factor}, which, 0.0)
    smooth_share = _chosen({"sharpness": 1 - factor}, which, 0.0)
    mixed = own * image + grey_share * grey + smooth_share * smoothed(image) + plus
    return jnp.clip(mixed, 0, 255)


def smoothed(image: Array) -> Array:
    """Pillow's SMOOTH: the mean of 3 x 3 with the middle five times, the edge as it is."""
    height, width, _ = image.shape
    wide = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    inner = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image) / 13
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    edge = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    return jnp.where(edge[..., None], image, inner)


def levelled(image: Array, which: Array, strength: Array) -> Array:
    """Solarize: (H, W, C) from a limit on reversed. Posterize: the lowest bits away."""
    amount = jnp.abs(strength)
    step = 2 ** jnp.round(BITS * amount)
    coarse = jnp.floor(image / step) * step
    image = jnp.where(which == NUMBER["posterize"], coarse, image)
    limit = jnp.where(which == NUMBER["solarize"], 255 * (1 - amount), 256)
    return jnp.where(image >= limit, 255 - image, image)


def equalized(image: Array, which: Array, strength: Array) -> Array:
    """Each channel of (H, W, C) with an even histogram, exactly as Pillow's `ImageOps.equalize`."""
    height, width, channels = image.shape
    bins = image.astype(jnp.int32) + 256 * jnp.arange(channels)
    counts = jnp.zeros(256 * channels, jnp.int32)
    counts = counts.at[bins.ravel()].add(1, mode="promise_in_bounds").reshape(channels, 256)
    last = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1)[:, None]
    step = (height * width - jnp.take_along_axis(counts, last, axis=1)) // 255
    before = jnp.cumsum(counts, axis=1) - counts
    table = jnp.minimum((before + step // 2) // jnp.maximum(step, 1), 255)
    table = jnp.where(step > 0, table, jnp.arange(256)).astype(jnp.float32)
    even = jnp.take(table.ravel(), bins, mode="clip")
    return jnp.where(which == NUMBER["equalize"], even, image)


STAGES = {
    ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"): warped,
    ("brightness", "contrast", "color", "sharpness", "autocontrast"): blended,
    ("solarize", "posterize"): levelled,
    ("equalize",): equalized,
}
