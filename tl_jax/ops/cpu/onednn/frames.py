"""Images by blocks of tiles, which are copied into columns and back."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.cases import Shape
from tl_jax.ops.cpu.onednn.library import Handle
from tl_jax.ops.cpu.onednn.program import Place, Primitive, Program

TILE = 4  # of the output, on either side


class Block(NamedTuple):
    """How many images, how many rows of tiles of each, and tiles of a row."""

    images: int
    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.images * self.rows * self.columns


def column_stride(block: Block, channels: int) -> int:
    """Numbers from one column of a block to the next.

    Not their number alone: it is often a multiple of 4 KiB, and places so far apart share one set
    of the cache.
    """
    return block.tiles * channels + 16


def tiles_of(length: int) -> int:
    """How many cover a side."""
    return -(-length // TILE)


def block_of(y: Shape, most: int) -> Block:
    """One with at most so many tiles of the output, if a row has no more, of which each of the
    output's has as many.
    """
    images, rows, columns = y[0], tiles_of(y[1]), tiles_of(y[2])
    some = _divisor(rows, most // columns)
    return Block(_divisor(images, most // (rows * columns)) if some == rows else 1, some, columns)


def _divisor(number: int, most: int) -> int:
    return next(n for n in range(max(1, min(number, most)), 0, -1) if number % n == 0)


def starts(y: Shape, block: Block) -> Iterator[tuple[int, int]]:
    """The first image, and the first row of tiles, of each block of the output."""
    for image in range(0, y[0], block.images):
        for row in range(0, tiles_of(y[1]), block.rows):
            yield image, row


class Frame:
    """A block's part of an array of images, in scratch memory, with zeros around the images.

    Its tiles are `span` wide and lie `TILE` apart; `edges` are before an image, above and left.
    """

    def __init__(self, program: Program, shape: Shape, block: Block, span: int, edges=(0, 0)):
        self._program, self._shape, self._edges = program, shape, edges
        self._rows, self._columns = (n * TILE + span - TILE for n in block[1:])
        self._width = min(self._columns - edges[1], shape[2])  # of the image, in the frame
        whole = block.images, self._rows, self._columns, shape[3]
        self._place = program.scratch(dnnl.image(whole))
        self._zeros = np.zeros(whole, np.float32)
        self._copies: dict[tuple[int, bool], Primitive] = {}
        self._zeroing: dict[int, Primitive] = {}
        self._parts = functools.cache(lambda back: list(self._tile_parts(block, span, back)))
        self._cleared = False

    def gather(self, images: Place, image: int, row: int, columns: Place) -> None:
        """Steps that copy the tiles of the block that starts there into columns, (span ** 2, tiles
        of the block, channels).
        """
        if not self._cleared:  # beside the images nothing else is ever put
            self._clear(0, self._rows)
            self._cleared = True
        first, last = self._filled(row)
        self._clear(0, first)
        self._clear(last, self._rows)
        ends = self._region(images, image, row, first)
        self._program.add(self._copy(last - first, False), *ends)
        for copy, begins in self._parts(back=False):
            self._program.add(copy, *self._at(begins, columns))

    def scatter(self, columns: Place, images: Place, image: int, row: int) -> None:
        """Steps that copy columns back into the tiles of the block that starts there."""
        for copy, begins in self._parts(back=True):
            self._program.add(copy, *reversed(self._at(begins, columns)))
        first, last = self._filled(row)
        ends = self._region(images, image, row, first)
        self._program.add(self._copy(last - first, True), *reversed(ends))

    def _filled(self, row: int) -> tuple[int, int]:
        """From where to where rows of the frame are rows of an image."""
        above = row * TILE - self._edges[0]
        return max(0, -above), min(self._rows, self._shape[1] - above)

    def _region(self, images: Place, image: int, row: int, first: int) -> tuple[Place, Place]:
        """Where what is in the frame from row `first` on is in the images, and in the frame."""
        _, height, width, channels = self._shape
        above = image * height + row * TILE - self._edges[0] + first
        inside = first * self._columns + self._edges[1]
        return images.after(above * width * channels), self._place.after(inside * channels)

    def _copy(self, rows: int, back: bool) -> Primitive:
        if (rows, back) not in self._copies:
            ends = [self._layout(rows, sides) for sides in (self._shape, self._zeros.shape)]
            self._copies[rows, back] = self._program.reorder(*(ends[::-1] if back else ends))
        return self._copies[rows, back]

    def _layout(self, rows: int, shape: Shape) -> Handle:
        """Of the image's part of that many rows of a frame, in images of that shape."""
        _, height, width, channels = shape
        strides = height * width * channels, width * channels, channels, 1
        return dnnl.strided((len(self._zeros), rows, self._width, channels), strides)

    def _clear(self, first: int, last: int) -> None:
        """A step that makes rows of the frame zero."""
        if first == last:
            return
        rows, (images, _, columns, channels) = last - first, self._zeros.shape
        if rows not in self._zeroing:
            strides = self._zeros[0].size, columns * channels, channels, 1
            layout = dnnl.strided((images, rows, columns, channels), strides)
            self._zeroing[rows] = self._program.reorder(layout, layout)
        place = self._place.after(first * columns * channels)
        self._program.add(self._zeroing[rows], self._zeros, place)

    def _tile_parts(self, block: Block, span: int, back: bool):
        """For each part of a tile what copies it into columns, or back, and where it begins."""
        # oneDNN has no layout whose parts overlap: what tiles share is copied for each apart.
        channels = self._shape[3]
        line, tile_row = self._columns * channels, block.columns * channels
        column = column_stride(block, channels)
        parts = [(start, min(TILE, span - start)) for start in range(0, span, TILE)]
        for top, height in parts:
            for left, width in parts:
                sizes = height, width, *block, channels
                inside = line, channels, self._rows * line, TILE * line, TILE * channels, 1
                outside = span * column, column, block.rows * tile_row, tile_row, channels, 1
                ends = [dnnl.strided(sizes, strides) for strides in (inside, outside)]
                begins = top * line + left * channels, (top * span + left) * column
                yield self._program.reorder(*(ends[::-1] if back else ends)), begins

    def _at(self, begins: tuple[int, int], columns: Place) -> tuple[Place, Place]:
        return self._place.after(begins[0]), columns.after(begins[1])
