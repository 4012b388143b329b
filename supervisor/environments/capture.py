"""What this machine and one interpreter on it have, found in milliseconds, without asking a package manager."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.environment import Found, normal_name
from supervisor.core.errors import SetupError
from supervisor.core.values import dataclass
from supervisor.engine import accelerators

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What names the machine's image, on the hosts that say it (Colab, Kaggle).
_IMAGE_VARIABLES = ("COLAB_RELEASE_TAG", "KAGGLE_DOCKER_IMAGE")
_CHANGES_THE_PATH = ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYENV_VERSION")
_EGG = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-py\d.*)?\.(egg-info|egg)$")
# Runs in the interpreter that is looked at; its own lines of PYTHONPATH are left out, as every child gets them anyway.
_PROBE = """
import json, os, platform, site, sys, sysconfig
known = sysconfig.get_paths()
standard = [os.path.realpath(known[key]) for key in ("stdlib", "platstdlib")]
given = {os.path.realpath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one}
def of_packages(entry):
    true = os.path.realpath(entry)
    return "-packages" in true or not (true.endswith(".zip") or any((true + "/").startswith(one + "/") for one in standard))
folders = [one for one in sys.path if one and os.path.realpath(one) not in given and of_packages(one)]
implementation = "cp" if sys.implementation.name == "cpython" else sys.implementation.name
tag = implementation + "%d%d" % sys.version_info[:2] + getattr(sys, "abiflags", "")
print(json.dumps({"executable": sys.executable, "python": platform.python_version(), "tag": tag,
                  "system": sys.platform + "-" + platform.machine(), "libc": " ".join(platform.libc_ver()).strip(),
                  "folders": folders, "given": sorted(given)}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python: `folders` are where it finds packages, in its order; `given` those named by PYTHONPATH."""

    executable: str
    python: str
    tag: str
    system: str
    libc: str
    folders: tuple[str, ...]
    given: tuple[str, ...]


def interpreter(python: str, home: Path, environ: Mapping[str, str]) -> Interpreter:
    """The interpreter that `python` (a path or a name) starts; asked once (40 ms), then kept in `home` until it changes.

    Raises SetupError when it does not run.
    """
    path = shutil.which(python, path=environ.get("PATH")) or python
    identity = [
        path,
        _stamp(path),
        _stamp(Path(path).parent.parent / "pyvenv.cfg"),
        *(environ.get(key, "") for key in _CHANGES_THE_PATH),
    ]
    kept = home / "interpreters" / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.json"
    answer = _kept(kept)
    if answer is None:
        answer = _ask(path, environ)
        answer["stamps"] = [_stamp(folder) for folder in answer["folders"]]
        _keep(kept, answer)
    told: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in answer.items() if key != "stamps"
    }
    return Interpreter(**told)


def found(chosen: Interpreter, environ: Mapping[str, str]) -> Found:
    """What `chosen` and the machine have now."""
    devices, driver = _accelerators(environ)
    system = os.uname()
    return Found(
        python=chosen.python,
        python_tag=chosen.tag,
        system=chosen.system,
        libc=chosen.libc,
        kernel=system.release,
        image=next((environ[key] for key in _IMAGE_VARIABLES if environ.get(key)), ""),
        cpu=_first_field(Path("/proc/cpuinfo"), "model name"),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        accelerators=devices,
        driver=driver,
        cuda=_cuda(),
        distributions=distributions((*chosen.given, *chosen.folders)),
    )


def distributions(folders: Iterable[str]) -> dict[str, str]:
    """Name and version of every distribution in `folders`, from the names of its metadata folders; the first one counts."""
    seen: dict[str, str] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError:  # sys.path may name folders that are not there
            continue
        for name in names:
            if name.endswith(".dist-info"):
                title, _, version = name.removesuffix(".dist-info").rpartition("-")
            elif egg := _EGG.match(name):
                title, version = egg["name"], egg["version"]
            else:
                continue
            if title and not title.startswith("~"):  # pip's remains of a half-removed package start so
                seen.setdefault(normal_name(title), version)
    return dict(sorted(seen.items()))


def _accelerators(environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Names of the accelerators and the NVIDIA driver's version; its library is asked only where its files are hidden."""
    names, driver = accelerators.nvidia_files(Path("/proc/driver/nvidia"))
    if not names:
        cards, driver = accelerators.nvidia()
        names = tuple(card.name for card in cards)
    return (*names, *(chip.name for chip in accelerators.tpu(environ))), driver


def _stamp(path: str | Path) -> str:
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = json.loads(path.read_bytes())
        fresh = answer["stamps"] == [_stamp(folder) for folder in answer["folders"]]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or cut short by a kill: ask again
        return None
    return answer if fresh else None


def _keep(path: Path, answer: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No pid in it, because containers that share a checkout have the same ones.
    temporary = path.with_suffix(f".tmp-{os.urandom(4).hex()}")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.rename(path)


def _ask(path: str, environ: Mapping[str, str]) -> dict[str, Any]:
    from supervisor.environments import commands

    ended = commands.run([path, "-c", _PROBE], environ)
    try:
        answer: dict[str, Any] = json.loads(ended.out)
    except ValueError as error:
        raise SetupError(
            f"{path} is not a Python that runs: {ended.said.strip()[-200:]}", "name another interpreter"
        ) from error
    return answer


def _cuda() -> str:
    true = Path("/usr/local/cuda").resolve().name
    return true.removeprefix("cuda-") if true.startswith("cuda-") else ""


def _first_field(path: Path, key: str) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
    except OSError:  # unknown on this system
        return ""
