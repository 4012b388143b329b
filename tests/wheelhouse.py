"""Tiny wheels and throw-away interpreters made by hand, so that installing is tested without a network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from supervisor import bootstrap

OWN = ("tenacity", "watchdog", "rich", "packaging", "xxhash")


def write_wheel(folder: Path, name: str, version: str, *, requires: tuple[str, ...] = (), body: str = "") -> Path:
    """A pure wheel of one module that holds its own version."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = {
        f"{module}.py": f"version = {version!r}\n{body}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return wheel


def write_interpreter(folder: Path, **installed: str) -> Path:
    """A bare virtual environment that has `installed` (name = version): the machine's own Python, for a test."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next((folder / "lib").glob("*/site-packages"))
    for name, version in installed.items():
        with zipfile.ZipFile(write_wheel(folder / "wheels", name, version)) as archive:
            archive.extractall(packages)
    return folder / "bin" / "python"


def offline_environ(home: Path, *wheel_folders: Path) -> dict[str, str]:
    """A blank environment without a network: packages come from `wheel_folders` or not at all."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": " ".join(map(str, wheel_folders)),
    }


def fill_private(folder: Path) -> None:
    """Put the supervisor's own packages into its private folder, as its installer would from an index."""
    for name in OWN:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        shutil.copytree(Path(found.origin).parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / bootstrap.STAMP).touch()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
