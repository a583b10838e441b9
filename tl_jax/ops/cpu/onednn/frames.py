"""Blocks of tiles of images, which are copied into columns and back."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.cases import Shape
from tl_jax.ops.cpu.onednn.library import Handle
from tl_jax.ops.cpu.onednn.program import Location, Primitive, Program

TILE = 4  # side of a tile of the output


class Block(NamedTuple):
    """Numbers of images, of rows of tiles in each image, and of tiles in each row."""

    images: int
    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.images * self.rows * self.columns


def column_stride(block: Block, channels: int) -> int:
    """Return the distance, in numbers, from one column of a block to the next.

    It is larger than a column, whose size is often a multiple of 4 KiB: addresses that far apart
    share one set of the cache.
    """
    return block.tiles * channels + 16


def tiles_of(length: int) -> int:
    """Return how many tiles cover a side of that length."""
    return -(-length // TILE)


def block_of(y: Shape, most: int) -> Block:
    """Return a block of at most `most` tiles of the output `y`, but of one row at least.

    Blocks of that size cover the output exactly.
    """
    images, rows, columns = y[0], tiles_of(y[1]), tiles_of(y[2])
    height = _divisor(rows, most // columns)
    count = _divisor(images, most // (rows * columns)) if height == rows else 1
    return Block(count, height, columns)


def _divisor(number: int, most: int) -> int:
    return next(n for n in range(max(1, min(number, most)), 0, -1) if number % n == 0)


def starts(y: Shape, block: Block) -> Iterator[tuple[int, int]]:
    """Yield the first image and the first row of tiles of each block of the output `y`."""
    for image in range(0, y[0], block.images):
        for row in range(0, tiles_of(y[1]), block.rows):
            yield image, row


class Frame:
    """A copy of a block's part of an array of images, in scratch memory, with zeros around it.

    Its tiles have sides of `span` and lie `TILE` apart; `edges` are the zeros above and on the left
    of an image.
    """

    def __init__(self, program: Program, shape: Shape, block: Block, span: int, edges=(0, 0)):
        self._program, self._shape, self._edges = program, shape, edges
        self._rows, self._columns = (n * TILE + span - TILE for n in block[1:])
        self._width = min(self._columns - edges[1], shape[2])  # of the image, in the frame
        whole = block.images, self._rows, self._columns, shape[3]
        self._memory = program.scratch(dnnl.image(whole))
        self._zeros = np.zeros(whole, np.float32)
        self._copies: dict[tuple[int, bool], Primitive] = {}
        self._zeroing: dict[int, Primitive] = {}
        self._parts = functools.cache(lambda back: list(self._tile_parts(block, span, back)))
        self._cleared = False

    def gather(self, images: Location, image: int, row: int, columns: Location) -> None:
        """Add steps that copy the tiles of the block at `image` and `row` into columns.

        The columns are (span ** 2, tiles of the block, channels).
        """
        if not self._cleared:  # later steps write nothing beside the images
            self._clear(0, self._rows)
            self._cleared = True
        first, last = self._filled(row)
        self._clear(0, first)
        self._clear(last, self._rows)
        ends = self._region(images, image, row, first)
        self._program.add(self._copy(last - first, False), *ends)
        for copy, begins in self._parts(back=False):
            self._program.add(copy, *self._at(begins, columns))

    def scatter(self, columns: Location, images: Location, image: int, row: int) -> None:
        """Add steps that copy columns back into the tiles of the block at `image` and `row`."""
        for copy, begins in self._parts(back=True):
            self._program.add(copy, *reversed(self._at(begins, columns)))
        first, last = self._filled(row)
        ends = self._region(images, image, row, first)
        self._program.add(self._copy(last - first, True), *reversed(ends))

    def _filled(self, row: int) -> tuple[int, int]:
        """Return the first row of the frame that lies in an image, and the one after the last."""
        above = row * TILE - self._edges[0]
        return max(0, -above), min(self._rows, self._shape[1] - above)

    def _region(
        self, images: Location, image: int, row: int, first: int
    ) -> tuple[Location, Location]:
        """Return where row `first` of the frame begins, in the images and in the frame."""
        _, height, width, channels = self._shape
        above = image * height + row * TILE - self._edges[0] + first
        inside = first * self._columns + self._edges[1]
        return images.after(above * width * channels), self._memory.after(inside * channels)

    def _copy(self, rows: int, back: bool) -> Primitive:
        if (rows, back) not in self._copies:
            ends = [self._layout(rows, sides) for sides in (self._shape, self._zeros.shape)]
            self._copies[rows, back] = self._program.reorder(*(ends[::-1] if back else ends))
        return self._copies[rows, back]

    def _layout(self, rows: int, shape: Shape) -> Handle:
        """Return the layout of an image's part in `rows` rows of a frame; images have `shape`."""
        _, height, width, channels = shape
        strides = height * width * channels, width * channels, channels, 1
        return dnnl.strided((len(self._zeros), rows, self._width, channels), strides)

    def _clear(self, first: int, last: int) -> None:
        """Add a step that sets rows `first` to `last` of the frame to zero."""
        if first == last:
            return
        rows, (images, _, columns, channels) = last - first, self._zeros.shape
        if rows not in self._zeroing:
            strides = self._zeros[0].size, columns * channels, channels, 1
            layout = dnnl.strided((images, rows, columns, channels), strides)
            self._zeroing[rows] = self._program.reorder(layout, layout)
        target = self._memory.after(first * columns * channels)
        self._program.add(self._zeroing[rows], self._zeros, target)

    def _tile_parts(self, block: Block, span: int, back: bool):
        """For each part of a tile, yield a primitive that copies it into columns, or `back`, and
        where the part begins in both.
        """
        # oneDNN has no layout with overlapping parts: each tile gets its own copy of shared pixels.
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

    def _at(self, begins: tuple[int, int], columns: Location) -> tuple[Location, Location]:
        return self._memory.after(begins[0]), columns.after(begins[1])
