"""HyperLPR's published weights: fetched from its PyPI wheel (which is not installed), proved by digest, as arrays for our network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hyperlpr_example.caches import cache_folder, write_whole
from hyperlpr_example.caffemodel import Floats, read_caffemodel
from supervisor.core.errors import SetupError

WHEEL = "hyperlpr==0.0.2"
MODEL = "hyperlpr/models/dnn/SegmenationFree-Inception.caffemodel"
MODEL_SHA256 = "6045bf9c193ce0e3db0d7da7a6069f74e5d2db203e028980eaf3d60c84f67b23"
DROP_FIRST = 2  # its first two output steps are noise: 81 % instead of 86 % of plates are exact when they are read
_FETCH_TIMEOUT_S = 300

# Our layer, then Caffe's convolution and batch normalisation; a Caffe "Scale" layer holds the latter's gain and bias.
_LAYERS = {
    "stem.0": ("conv0", "bn0"),
    "stem.1": ("conv1", "bn1"),
    "stem.2": ("conv2", "bn2"),
    "height": ("conv2d_1", "batch_normalization_1"),
    "branches.0": ("conv2d_2", "batch_normalization_2"),
    "branches.1": ("conv2d_3", "batch_normalization_3"),
    "branches.2": ("conv2d_4", "batch_normalization_4"),
    "branches.3": ("conv2d_5", "batch_normalization_5"),
    "mix": ("conv_1024_11", "batch_normalization_6"),
}


def published_layers() -> dict[str, list[Floats]]:
    """The published weights by our network's layers (width 1.0); the file is fetched once and cached.

    Each layer has its convolution's weights (out, in, along, across) and bias, and all but the last, ``classes``, then their
    normalisation's gain, shift, mean and variance.
    """
    cached = cache_folder() / f"hyperlpr-{MODEL_SHA256[:16]}.caffemodel"
    content = cached.read_bytes() if cached.is_file() else b""
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        content = _fetched()
        write_whole(cached, content)
    return layers_from(content)


def layers_from(caffemodel: bytes) -> dict[str, list[Floats]]:
    """The layers from the content of the published file."""
    blobs = read_caffemodel(caffemodel)
    layers = {"classes": blobs["conv_class_11"][:2]}
    for ours, (convolution, normalisation) in _LAYERS.items():
        mean, variance, factor = blobs[normalisation]
        scale = blobs[f"{normalisation}_scale"][:2]
        layers[ours] = [*blobs[convolution][:2], *scale, mean / factor, variance / factor]
    return layers


def _fetched() -> bytes:
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for command in _fetchers(folder):
            problem = _run(command)
            content = _model_in(Path(folder))
            if hashlib.sha256(content).hexdigest() == MODEL_SHA256:
                return content
            problems.append(problem or f"{command[0]}: brought another file than the published one")
    reason = problems[-1] if problems else "neither pip nor uv was found"
    raise SetupError(
        f"cannot get HyperLPR's published weights (package {WHEEL}): {reason}",
        hint="connect to a package index and start again, or train without --init published",
    )


def _fetchers(folder: str) -> list[list[str]]:
    """Commands that bring the wheel, packed or unpacked, into the folder without touching any environment."""
    download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder, WHEEL]
    target = ["pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", folder, WHEEL]
    pythons = dict.fromkeys([sys.executable, *filter(None, [shutil.which("python3"), shutil.which("python")])])
    uv = os.environ.get("UV") or shutil.which("uv")
    return [[python, *download] for python in pythons] + ([[uv, *target]] if uv else [])


def _run(command: list[str]) -> str | None:
    """None when the command succeeded, else its last words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    return None if done.returncode == 0 else last


def _model_in(folder: Path) -> bytes:
    unpacked = folder / MODEL
    if unpacked.is_file():
        return unpacked.read_bytes()
    for wheel in folder.glob("hyperlpr-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MODEL)
    return b""
