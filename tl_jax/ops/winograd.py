"""3 x 3 convolution with 16 products in place of 36: Winograd's F(2 x 2, 3 x 3).

Lavin & Gray 2016 (arXiv:1509.09308), section 4.1: the output falls into tiles of 2 x 2, each from
4 x 4 of the input, and of the tile Y = A' [(G k G') * (B' d B)] A. Input tiles `d`, kernels `k` and
output tiles `Y` are transformed by additions and halves alone, so the error stays near that of the
direct sum. For all tiles at once the products are 16 matrix products over the channels. The work
goes through some images at a time, so that what lies between the transforms stays in the cache.
"""

import jax
import jax.numpy as jnp

# Rows of (position, factor): B', G and A' of the paper's equation (8), and A itself.
_B = (((0, 1), (2, -1)), ((1, 1), (2, 1)), ((2, 1), (1, -1)), ((1, 1), (3, -1)))
_G = (((0, 1),), ((0, 0.5), (1, 0.5), (2, 0.5)), ((0, 0.5), (1, -0.5), (2, 0.5)), ((2, 1),))
_A = (((0, 1), (1, 1), (2, 1)), ((1, 1), (2, -1), (3, -1)))
_A_TURNED = (((0, 1),), ((0, 1), (1, 1)), ((0, 1), (1, -1)), ((1, -1),))
_G_TURNED = (((0, 1), (1, 0.5), (2, 0.5)), ((1, 0.5), (2, -0.5)), ((1, 0.5), (2, 0.5), (3, 1)))

TILES = 1568  # worked on together: enough rows for a fast product, little enough for the cache


def forward(x, kernel, padding):
    """Convolution of `x` (N, H, W, C) with `kernel` (3, 3, C, D), stride 1."""
    return _convolved(x, kernel, padding, lambda tiles, kernel: tiles @ kernel)


def input_gradient(g, kernel, padding):
    """Gradient by the input of `forward`, from the output's `g` (N, H', W', D)."""
    padding = tuple((2 - before, 2 - after) for before, after in padding)
    # The product turns the channels, for nothing; turning the kernel's own would be a slow copy.
    return _convolved(g, kernel[::-1, ::-1], padding, lambda tiles, kernel: tiles @ kernel.T)


def _convolved(x, kernel, padding, product):
    height, width = _out(x.shape, padding)

    def block(x):
        products = _zip(product, _input_tiles(x, padding), _transformed(_G, _grid(kernel)))
        parts = _transformed(_A, products)  # 2 x 2 of (tiles, D)
        shape = (len(x), -(-height // 2), -(-width // 2), parts[0][0].shape[-1])
        y = jnp.stack([jnp.stack([p.reshape(shape) for p in row], 3) for row in parts], 2)
        return y.reshape(len(x), 2 * shape[1], 2 * shape[2], -1)[:, :height, :width]

    several = _images(len(x), height, width)
    if several == len(x):
        return block(x)
    y = jax.lax.map(block, x.reshape(-1, several, *x.shape[1:]))
    return y.reshape(len(x), height, width, -1)


def kernel_gradient(x, g, padding):
    """Gradient by the kernel of `forward`, (3, 3, C, D): the same products, transposed."""

    def block(x, g):
        height, width = g.shape[1:3]
        g = jnp.pad(g, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        tiles = [[_rows(g[:, i::2, j::2]) for j in range(2)] for i in range(2)]
        both = _zip(lambda v, m: v.T @ m, _input_tiles(x, padding), _transformed(_A_TURNED, tiles))
        return jnp.stack([jnp.stack(row) for row in both])  # (4, 4, C, D)

    several = _images(len(x), *g.shape[1:3])
    if several == len(x):
        total = block(x, g)
    else:
        blocks = [a.reshape(-1, several, *a.shape[1:]) for a in (x, g)]
        zero = jnp.zeros((4, 4, x.shape[-1], g.shape[-1]), x.dtype)
        total, _ = jax.lax.scan(lambda t, both: (t + block(*both), None), zero, blocks)
    return jnp.stack([jnp.stack(row) for row in _transformed(_G_TURNED, _grid(total))])


def _out(shape, padding):
    return [length + sum(edge) - 2 for length, edge in zip(shape[1:3], padding, strict=True)]


def _images(count: int, height: int, width: int) -> int:
    """Images of a block: a divisor of their number."""
    most = max(1, min(count, round(TILES / (-(-height // 2) * -(-width // 2)))))
    return next(n for n in range(most, 0, -1) if count % n == 0)


def _input_tiles(x, padding):
    """For each place of a 4 x 4 tile what all tiles have there, transformed: (tiles, C)."""
    (tall, wide), ((top, _), (left, _)) = _out(x.shape, padding), padding
    tall, wide = -(-tall // 2), -(-wide // 2)
    down, right = 2 * tall + 2 - top - x.shape[1], 2 * wide + 2 - left - x.shape[2]
    x = jnp.pad(x, ((0, 0), (top, down), (left, right), (0, 0)))
    ends = (
        [slice(i, i + 2 * tall - 1, 2) for i in range(4)],
        [slice(j, j + 2 * wide - 1, 2) for j in range(4)],
    )
    return _transformed(_B, [[_rows(x[:, i, j]) for j in ends[1]] for i in ends[0]])


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _grid(kernel):
    return [list(row) for row in kernel]


def _combined(rows, parts):
    """The sums of factor * part that the rows name; additions only where factors are 1."""
    sums = []
    for row in rows:
        terms = [parts[i] if f == 1 else -parts[i] if f == -1 else parts[i] * f for i, f in row]
        sums.append(sum(terms[1:], terms[0]))
    return sums


def _transformed(rows, grid):
    """`rows` applied to a grid of arrays from both sides."""
    columns = [_combined(rows, column) for column in zip(*grid, strict=True)]
    return [_combined(rows, row) for row in zip(*columns, strict=True)]


def _zip(f, one, other):
    return [[f(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]
