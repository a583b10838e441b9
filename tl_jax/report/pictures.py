"""What a network has learned, as images: filters, feature maps, and images beside each other."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.ImageOps

GAP = 4  # pixels between tiles
WHITE, INK, FRAME = "#ffffff", "#33373d", "#d8661f"
SIDE, CAPTION, COLUMNS = 160, 36, 5  # of a contact sheet: pixels of an image, of text; images a row


def filters(kernel: np.ndarray, *, columns: int = 16, side: int = 44) -> PIL.Image.Image:
    """The K filters of a convolution on images, (h, w, C, K), in their order: grey is zero.

    In colour where C is 3, else the mean over C. Each is scaled to its own largest weight, as
    Krizhevsky et al. 2012 show AlexNet's (figure 3).
    """
    kernel = np.asarray(kernel, np.float32)
    if kernel.shape[2] != 3:
        kernel = kernel.mean(2, keepdims=True).repeat(3, 2)
    most = np.abs(kernel).max((0, 1, 2))
    scaled = kernel / np.where(most > 0, most, 1)
    pixels = np.rint(127.5 + 127.5 * scaled).astype(np.uint8)
    return grid([enlarged(f, side) for f in np.moveaxis(pixels, -1, 0)], columns=columns)


def strongest(maps: np.ndarray, most: int) -> np.ndarray:
    """The channels of feature maps (H, W, C) that vary most over the image, at most (most,).

    By their standard deviation: a large activation everywhere says nothing of where.
    """
    return np.argsort(-maps.std((0, 1)), kind="stable")[:most]


def feature_map(
    activations: np.ndarray, *, side: int, bounds: tuple[float, float]
) -> PIL.Image.Image:
    """One channel (H, W) in the colours of viridis, without interpolation.

    Darkest and brightest are the `bounds`, so that maps beside each other have one scale.
    """
    import matplotlib  # of the `report` extra

    low, high = bounds
    scaled = (activations - low) / (high - low if high > low else 1)
    return enlarged(matplotlib.colormaps["viridis"](scaled, bytes=True)[..., :3], side)


def enlarged(pixels: np.ndarray, side: int) -> PIL.Image.Image:
    """(H, W, 3) uint8 so that the longer side is `side` pixels, each pixel a rectangle."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.NEAREST)


def tile(image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """The whole image in the middle of a square of `side` pixels, in RGB."""
    return PIL.ImageOps.pad(image.convert("RGB"), (side, side), color=WHITE)


def grid(tiles: Sequence[PIL.Image.Image], *, columns: int) -> PIL.Image.Image:
    """Tiles of one size row by row; what is between them is transparent."""
    columns = min(columns, len(tiles))
    width, height = tiles[0].width + GAP, tiles[0].height + GAP
    rows = -(-len(tiles) // columns)
    sheet = PIL.Image.new("RGBA", (columns * width - GAP, rows * height - GAP))
    for i, image in enumerate(tiles):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet


def contact_sheet(
    query: PIL.Image.Image, found: Sequence[PIL.Image.Image], labels: Sequence[str]
) -> PIL.Image.Image:
    """A query on the left, and beside it what was found for it, in rows, each above its label."""
    first = _labelled(PIL.ImageOps.expand(tile(query, SIDE - 8), 4, FRAME), "query")
    tiles = [_labelled(tile(image, SIDE), t) for image, t in zip(found, labels, strict=True)]
    rows = grid(tiles, columns=COLUMNS)
    sheet = PIL.Image.new("RGB", (first.width + 4 * GAP + rows.width, rows.height), WHITE)
    sheet.paste(first)
    sheet.paste(rows, (first.width + 4 * GAP, 0), rows)
    return sheet


def _labelled(image: PIL.Image.Image, label: str) -> PIL.Image.Image:
    """The image above the lines of the label, of which the ends are shown where they are long."""
    whole = PIL.Image.new("RGB", (image.width, image.height + CAPTION), WHITE)
    whole.paste(image)
    font, draw = PIL.ImageFont.load_default(12), PIL.ImageDraw.Draw(whole)
    for row, line in enumerate(label.splitlines()):
        ends = (line, *(f"...{line[i:]}" for i in range(1, len(line))))
        fits = next((e for e in ends if font.getlength(e) <= image.width), "")
        draw.text((2, image.height + 2 + 15 * row), fits, INK, font)
    return whole
