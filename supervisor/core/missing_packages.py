"""Hints for a module that a script cannot import: they name the distribution to install."""

from __future__ import annotations

import re

_MISSING = re.compile(r"No module named '([\w.]+)'(; '[\w.]+' is not a package)?")
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
DISTRIBUTIONS = {  # module: the distribution that has it, where the two have different names
    "absl": "absl-py",
    "antlr4": "antlr4-python3-runtime",
    "attr": "attrs",
    "Bio": "biopython",
    "bs4": "beautifulsoup4",
    "community": "python-louvain",
    "cpuinfo": "py-cpuinfo",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "dm_control": "dm-control",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "flash_attn": "flash-attn",
    "git": "GitPython",
    "haiku": "dm-haiku",
    "hydra": "hydra-core",
    "igraph": "python-igraph",
    "jwt": "PyJWT",
    "lightning_fabric": "lightning-fabric",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "mujoco_py": "mujoco-py",
    "OpenGL": "PyOpenGL",
    "OpenSSL": "pyOpenSSL",
    "open_clip": "open-clip-torch",
    "osgeo": "GDAL",
    "past": "future",
    "PIL": "Pillow",
    "pkg_resources": "setuptools<81",
    "pylab": "matplotlib",
    "pynvml": "nvidia-ml-py",
    "pytorch_lightning": "pytorch-lightning",
    "ruamel": "ruamel.yaml",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "smart_open": "smart-open",
    "stable_baselines3": "stable-baselines3",
    "tb_nightly": "tb-nightly",
    "tensorboard_logger": "tensorboard-logger",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_probability": "tensorflow-probability",
    "tf_keras": "tf-keras",
    "torch_geometric": "torch-geometric",
    "umap": "umap-learn",
    "usb": "pyusb",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
_OF_PYTHON = frozenset({"_bz2", "_ctypes", "_curses", "_lzma", "_sqlite3", "_ssl", "_tkinter", "tkinter"})
_REMOVED = {"asynchat": "3.12", "asyncore": "3.12", "cgi": "3.13", "imghdr": "3.13", "imp": "3.12", "pipes": "3.13"}


def todo(words: str) -> str:
    """Return what to do about an import that failed with these words; "" where they tell of no missing package."""
    if found := _LIBRARY.search(words):
        return _for_library(found[1])
    found = _MISSING.search(words)
    if found is None:
        return ""
    module = found[1]
    top = module.partition(".")[0]
    if found[2]:
        return f"a file {top}.py hides the package {top}: give that file another name and start again"
    return _without_package(top, module) or _named(DISTRIBUTIONS.get(top, top), top)


def _without_package(top: str, module: str) -> str:
    """Return what to do where no distribution has the module, "" where one has."""
    removed = _REMOVED.get(top, "")
    cases = {
        "google.colab is on Colab's machines alone: import it only there, and start again": (
            module.startswith("google.colab")
        ),
        f"{top} is a part of Python that this Python was built without: start again with another python3": (
            top in _OF_PYTHON
        ),
        f"{top} is no longer in Python {removed}: start again with an older python3, or change the import": (
            bool(removed)
        ),
        # Python imports first what stands before the dot, and did find it.
        f"{top} is here, in a version without {module}: name the version that has it in a requirements.txt beside "
        "the script, or in its PEP 723 block, and start again": module != top,
    }
    return next((words for words, holds in cases.items() if holds), "")


def _named(distribution: str, module: str) -> str:
    has = f" (which has {module})" if distribution != module else ""
    return f"name {distribution}{has} in a requirements.txt beside the script, or in its PEP 723 block, and start again"


def _for_library(library: str) -> str:
    if library.startswith(("libGL.", "libgthread", "libglib", "libSM.", "libXext", "libXrender")):
        return "name opencv-python-headless in place of opencv-python, which needs a screen's libraries; or: apt-get install libgl1 libglib2.0-0"
    return f"the library {library} of the system is missing: install the package of your system that has it, and start again"
