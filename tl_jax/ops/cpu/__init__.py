"""Everything that only a CPU needs, behind one switch, TL_JAX_CPU (`switch.py`).

`forms.py` is the door for the operations of `tl_jax.ops`; behind it `convolution.py`, `norm.py`,
`pooling.py` and `dense.py` hold the CPU's forms, and `onednn/` speaks to oneDNN. `cores.py` runs
inference on a part of the batch for each core, `constants.py` computes once what depends on the
weights alone, `heap.py` looks after the C library's memory, `xla.py` sets a flag.
"""
