"""Machines on this computer: each is a blank folder with processes, a home and a Python of its own. For rehearsals and tests.

They are kept as on a host that ssh reaches, and the same program does what is asked of them; only nobody is called for it.
A machine's Python is a fresh environment that sees this one's packages, so that nothing is fetched to begin; its
processes get none of this computer's variables but those that programs need to run and to install.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.provisioning import FleetTraits, MachineError
from supervisor.fleet.provisioners import ssh_far as far
from supervisor.fleet.provisioners.ssh import SshProvisioner
from supervisor.fleet.provisioners.ssh_calls import PROGRAM, Patience, SshHost

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "local"
VARIABLE = "SUPERVISOR_LOCAL_MACHINES"
CALL_S = 120.0
GIVEN = frozenset({"PATH", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "LD_LIBRARY_PATH", "OMP_NUM_THREADS"})
GIVEN_BEGINNINGS = ("LC_", "SSL_", "PIP_", "UV_", "CUDA_", "NVIDIA_", "REQUESTS_", "HTTP_", "HTTPS_", "NO_PROXY", "http", "no_proxy")  # fmt: skip


class LocalProvisioner(SshProvisioner):
    """``folder``: what this computer remembers, kept; the machines lie in the folder that SUPERVISOR_LOCAL_MACHINES names."""

    name = "local"

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._folder = folder
        self._base = str(_base(environ))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.host: SshHost = Here(environ)
        self.traits = FleetTraits("this computer", poll_s=1.0, listings=2, listings_apart_s=0.5)


class Here(SshHost):
    """This computer in a host's place."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.host, self.patience = HOST, Patience()
        self._given = {
            name: value
            for name, value in environ.items()
            if name in GIVEN or name.startswith(GIVEN_BEGINNINGS)
        }  # fmt: skip

    def ask(
        self, request: Mapping[str, Any], body: bytes = b"", expected_bytes: int = 0
    ) -> tuple[dict[str, Any], bytes]:
        """Do what is asked; a file arrives, and an agent starts, through the program in a process of its own."""
        del expected_bytes
        words = dict(request) | {"mark": f"answer-{uuid.uuid4().hex}"}
        if words["verb"] == "make":
            words["hardware"] = ""  # it is written down, and nothing is looked for: this is a rehearsal
        base = Path(words["base"])
        try:
            if words["verb"] == "start":
                far.check(words, base)
                return self._run_program(words, b"", base / words["folder"])
            if words["verb"] == "put":
                return self._run_program(words, body, None)
            return far.VERBS[words["verb"]](words, base)
        except far.Refused as refused:
            return {"kind": refused.kind, "words": str(refused)}, b""
        except OSError as error:
            return {"kind": "failed", "words": f"{error.strerror or error} ({error.filename or base})"}, b""

    def close(self) -> None:
        """There is no connection."""

    def _run_program(self, words: Mapping[str, Any], body: bytes, folder: Path | None) -> tuple[dict[str, Any], bytes]:
        python, environ = (Path(sys.executable), self._given) if folder is None else self._machines_own(folder)
        try:
            done = subprocess.run(
                [str(python), "-SI", str(PROGRAM)], input=json.dumps(words).encode() + b"\n" + body,
                capture_output=True, env=environ, timeout=CALL_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MachineError(f"this computer did not do it within {CALL_S:.0f} s: {words['verb']}") from None
        _, _, answered = done.stdout.partition(f"\n{words['mark']}".encode())
        if not answered:
            raise MachineError(f"{words['verb']} failed: {done.stderr.decode('utf-8', 'replace')[-500:]}")
        answer: dict[str, Any] = json.loads(answered.partition(b"\n")[0])
        return answer, b""

    def _machines_own(self, folder: Path) -> tuple[Path, dict[str, str]]:
        """Return a machine's Python and environment; they are made at its first start."""
        home, own = folder / "home", folder / "python"
        home.mkdir(mode=0o700, exist_ok=True)
        binaries = own / "bin"
        if not own.exists():
            _make_python(own)
        path = os.pathsep.join(filter(None, [str(binaries), self._given.get("PATH", os.defpath)]))
        return binaries / "python", {**self._given, "HOME": str(home), "PATH": path}


def _base(environ: Mapping[str, str]) -> Path:
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]).absolute()
    if environ.get("SUPERVISOR_RUN_LOCAL"):
        return Path(environ["SUPERVISOR_RUN_LOCAL"]).absolute() / "training-supervisor" / "machines"
    shared = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local/share")
    return Path(shared).absolute() / "training-supervisor" / "machines"


def _make_python(own: Path) -> None:
    """Make an environment that sees this one's packages; two that do it at once make one."""
    import site
    import venv

    beside = own.with_name(f".new-{own.name}-{uuid.uuid4().hex}")
    venv.EnvBuilder(symlinks=True).create(beside)
    sites = beside / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages = [
        *site.getsitepackages(),
        *(each for each in sys.path if "/packages-" in each),
    ]  # and our own private ones
    packages += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    (sites / "this-computer.pth").write_text("".join(f"{each}\n" for each in packages))
    try:
        beside.rename(own)
    except OSError:
        shutil.rmtree(beside)  # another call was first: a folder with something in it is never replaced
        if not own.exists():
            raise
