"""Real bases' steps and inference are lowered for GPUs and TPUs; a small one's in test_parallel."""

import numpy as np
import pytest
import steps

import tl_jax
from tl_jax.chain.programs import forward_program
from tl_jax.train.objectives.cross_entropy import CrossEntropy

# A depthwise, a wide, and a strided convolution with batch norm; max pooling; an LSTM.
BASES = {
    "efficientnet_lite0": "stage2_block1",
    "resnet18": "stage2_block1",
    "awd_lstm_small": "lstm3",
}


TRUTH = {
    **dict.fromkeys(("labels", "graded_labels"), np.arange(2, dtype=np.int32)),
    **dict.fromkeys(("weights", "graded_weights"), np.ones(2, np.float32)),
}


def ready(name: str):
    base = tl_jax.load_base(name, "random:0")
    base = base.resized(32) if base.preprocessing.example.ndim == 4 else base
    return base.cut(BASES[name]).with_head(2)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", BASES)
def test_a_step_and_inference_are_lowered_for_accelerators(name, platform):
    base = ready(name)
    example = base.preprocessing.example
    x = np.zeros((2, *example.shape[1:]), example.dtype)
    truth = {"targets": np.eye(2, dtype=np.float32), **TRUTH}
    batch = steps.batch_of(x, place=base.chain.inputs[0], **truth)
    of = steps.recipe(base.chain, CrossEntropy(), batch_norm="batch", remat="stage|lstm")
    state, fixed = steps.begin(of, base.variables, batch), steps.fixed(of, base.variables)
    step = steps.program(of).trace(state, fixed, batch)
    inference = forward_program(base.chain, None, None).whole.trace(base.variables, x)
    for traced in (step, inference):
        assert "onednn" not in traced.lower(lowering_platforms=(platform,)).as_text()
        if name == "resnet18":
            assert "onednn" in traced.lower(lowering_platforms=("cpu",)).as_text()
