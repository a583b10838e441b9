"""Everything that only a CPU needs, behind one switch, TL_JAX_CPU (`switch.py`).

The operations of `tl_jax.ops` call `dispatch.py`, which looks up the CPU's implementations in
`convolution.py`, `norm.py`, `pooling.py` and `dense.py`; `onednn/` calls oneDNN. `cores.py` runs
inference on a part of the batch for each core, `constants.py` computes once what depends on the
weights alone, `heap.py` controls the C library's heap, and `xla.py` sets a flag.
"""
