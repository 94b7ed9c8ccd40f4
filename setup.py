"""Packaging of caf-dkd. Ranges are here; constraints/ holds the exact versions that CI tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PLOTS = ["matplotlib>=3.6"]  # caf_dkd_plugin/evaluation and examples/multi30k, figures of results


def read_version() -> str:
    """The version has one home, the plugin's __init__.py, read without importing torch or fairseq."""
    source = (ROOT / "caf_dkd_plugin" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if match is None:
        raise RuntimeError('caf_dkd_plugin/__init__.py has no line __version__ = "..."')
    return match.group(1)


def read_description() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="caf-dkd",
    version=read_version(),
    description=(
        "Low-resource multimodal machine translation with cross-modal fusion and "
        "knowledge distillation, as a plugin for stock fairseq"
    ),
    long_description=read_description(),
    long_description_content_type="text/markdown",
    author="the caf-dkd authors",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["caf_dkd_plugin", "caf_dkd_plugin.*"]),
    # CI tests 3.10 and 3.11, each with its own fairseq (below); 3.12 passed the tests by hand. Newer
    # ones are not refused, since the fork admits them, but nothing here has run on them.
    python_requires=">=3.10",
    install_requires=[
        # Official fairseq cannot be imported on Python 3.11 and newer (mutable dataclass defaults);
        # the fork is the same code with that mended. Both are built from source: C++ compiler.
        'fairseq>=0.12.2,<0.13; python_version < "3.11"',
        'fairseq-fixed>=0.12.3.1; python_version >= "3.11"',
        'numpy<1.24; python_version < "3.11"',  # fairseq 0.12.2 still says np.float
        'numpy>=1.23.3; python_version >= "3.11"',
        "omegaconf",  # the configs of task and model; fairseq says which version
        "torch>=2.6",  # the first whose add_safe_globals takes (object, name) pairs
        "torchvision>=0.21",  # backbones for preprocess/extract_features.py; 0.21 goes with torch 2.6
        "h5py>=3.7",  # the image store
        "pillow>=9.1",  # reading pictures
        "sacrebleu>=2.0",  # BLEU with its signature, and its paired bootstrap
        "sacremoses>=0.0.53",  # the tokenised BLEU of earlier papers
        "sentencepiece>=0.1.97",  # preprocess/prepare_multi30k.py
        "tqdm>=4.60",  # progress bars of preprocess/
    ],
    extras_require={
        "dev": [
            "pytest>=8.0",  # make test
            *PLOTS,  # the tests draw them
            "hydra-core",  # tests of fairseq-hydra-train; fairseq says which version
            "packaging>=22.0",  # tests/test_packaging.py, to read the markers above
            "ruff>=0.17,<0.18",  # make lint, make format: what is well formatted changes with it
        ],
        "plots": PLOTS,
    },
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
