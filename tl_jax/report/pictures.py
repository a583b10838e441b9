"""Images of what a network has learned: filters, feature maps, and grids of images."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.ImageOps

from tl_jax.data.images import Image, seen

GAP = 4  # pixels between tiles
WHITE, INK, FRAME = "#ffffff", "#33373d", "#d8661f"
SIDE, CAPTION, COLUMNS = 160, 36, 5  # contact sheet: pixels of an image, of text; images in a row


def filters(kernel: np.ndarray, *, columns: int = 16, side: int = 44) -> PIL.Image.Image:
    """Draw the K filters (h, w, C, K) of a convolution on images, in their order; grey is zero.

    They are in colour if C is 3, else a mean over C. Each is scaled by its own largest weight, as
    in Krizhevsky et al. 2012, figure 3.
    """
    kernel = np.asarray(kernel, np.float32)
    if kernel.shape[2] != 3:
        kernel = kernel.mean(2, keepdims=True).repeat(3, 2)
    most = np.abs(kernel).max((0, 1, 2))
    scaled = kernel / np.where(most > 0, most, 1)
    pixels = np.rint(127.5 + 127.5 * scaled).astype(np.uint8)
    return grid([enlarged(f, side) for f in np.moveaxis(pixels, -1, 0)], columns=columns)


def strongest(maps: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` channels of feature maps (H, W, C) that vary most over the image.

    They are ordered by standard deviation: a large activation everywhere shows no position.
    """
    return np.argsort(-maps.std((0, 1)), kind="stable")[:most]


def feature_map(
    activations: np.ndarray, *, side: int, bounds: tuple[float, float]
) -> PIL.Image.Image:
    """Draw one channel (H, W) in the colours of viridis, without interpolation.

    `bounds` are the darkest and the brightest value, so that maps beside each other share a scale.
    """
    import matplotlib  # of the `report` extra

    low, high = bounds
    scaled = (activations - low) / (high - low if high > low else 1)
    return enlarged(matplotlib.colormaps["viridis"](scaled, bytes=True)[..., :3], side)


def enlarged(pixels: np.ndarray, side: int) -> PIL.Image.Image:
    """Enlarge (H, W, 3) uint8 to `side` pixels on the longer side; each pixel is a rectangle."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.NEAREST)


def tile(image: Image, side: int) -> PIL.Image.Image:
    """Fit the whole image into a square of `side` pixels, in RGB."""
    return PIL.ImageOps.pad(seen(image).convert("RGB"), (side, side), color=WHITE)


def grid(tiles: Sequence[PIL.Image.Image], *, columns: int) -> PIL.Image.Image:
    """Arrange tiles of one size row by row, with transparent gaps."""
    columns = min(columns, len(tiles))
    width, height = tiles[0].width + GAP, tiles[0].height + GAP
    rows = -(-len(tiles) // columns)
    sheet = PIL.Image.new("RGBA", (columns * width - GAP, rows * height - GAP))
    for i, image in enumerate(tiles):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet


def contact_sheet(query: Image, found: Sequence[Image], labels: Sequence[str]) -> PIL.Image.Image:
    """Draw a query on the left, and beside it rows of the images found, above their labels."""
    first = _labelled(PIL.ImageOps.expand(tile(query, SIDE - 8), 4, FRAME), "query")
    tiles = [_labelled(tile(image, SIDE), t) for image, t in zip(found, labels, strict=True)]
    rows = grid(tiles, columns=COLUMNS)
    sheet = PIL.Image.new("RGB", (first.width + 4 * GAP + rows.width, rows.height), WHITE)
    sheet.paste(first)
    sheet.paste(rows, (first.width + 4 * GAP, 0), rows)
    return sheet


def _labelled(image: PIL.Image.Image, label: str) -> PIL.Image.Image:
    """Draw the image above the lines of its label; a long line is cut at its beginning."""
    whole = PIL.Image.new("RGB", (image.width, image.height + CAPTION), WHITE)
    whole.paste(image)
    font, draw = PIL.ImageFont.load_default(12), PIL.ImageDraw.Draw(whole)
    for row, line in enumerate(label.splitlines()):
        ends = (line, *(f"...{line[i:]}" for i in range(1, len(line))))
        fits = next((e for e in ends if font.getlength(e) <= image.width), "")
        draw.text((2, image.height + 2 + 15 * row), fits, INK, font)
    return whole
