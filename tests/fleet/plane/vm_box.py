"""A virtual machine for the tests: namespaces with their own /content, processes and boot, and a real Jupyter server in them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

from benchmarks.machines import until
from tests.machines.machine import BOOT_ID, children

ROOT = Path(__file__).resolve().parents[3]
FIRST = ROOT / "tests" / "machines" / "first_process.py"
SITE = Path(__file__).resolve().parent / "vm"
NAMESPACES = ("--mount", "--uts", "--pid", "--ipc")
CONTENT = Path("/content")
WAIT_S_MAX = 400.0


class VmBox:
    """One machine: up as soon as it is made; its Jupyter server comes with the first call (``ready``)."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder, self.host = folder, host
        self.content = folder / "content"
        self.credentials = folder / "drive-credentials"
        for each in (self.content, folder / "home", folder / "tmp"):
            each.mkdir(parents=True)
        self.born_s, self.died_s = time.perf_counter(), 0.0
        self.port = free_port()
        self._box = self._up()
        self.first = until(lambda: children(self._box.pid))[0]
        self._serving = threading.Lock()
        self._jupyter: subprocess.Popen | None = None

    @property
    def alive(self) -> bool:
        return not self.died_s

    def ready(self) -> bool:
        """Start the Jupyter server if nobody has asked for it yet, and wait until it answers; False if the machine died."""
        with self._serving:
            if self._jupyter is None and self.alive:
                self._jupyter = self._serve()
        end_s = time.perf_counter() + WAIT_S_MAX
        while self.alive and time.perf_counter() < end_s:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            time.sleep(0.02)  # because another process comes up
        return False

    def die(self) -> None:
        """Power off: everything on it is killed at once and its disk is lost."""
        if not self.alive:
            return
        self.died_s = time.perf_counter()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)  # the first process of a process namespace takes all others with it
        with self._serving:
            for process in filter(None, (self._box, self._jupyter)):
                process.wait(WAIT_S_MAX)
        for stream in (self._box.stdin, self._box.stdout):
            stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lived_s(self) -> float:
        return (self.died_s or time.perf_counter()) - self.born_s

    def _up(self) -> subprocess.Popen:
        boot = self.folder / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        spec = json.dumps([self.host, [[str(boot), BOOT_ID], [str(self.content), str(CONTENT)]]])
        with (self.folder / "box.log").open("wb") as log:
            box = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", sys.executable, "-SEI", str(FIRST), spec],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        assert box.stdout.readline() == "up\n", (self.folder / "box.log").read_text()
        return box

    def _serve(self) -> subprocess.Popen:
        server = [
            sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", "--ServerApp.root_dir=/",
            "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--ServerApp.terminals_enabled=False",
            "--ServerApp.jpserver_extensions={}", "--ServerApp.allow_remote_access=True",
        ]  # fmt: skip
        enter = ["nsenter", "--target", str(self.first), *NAMESPACES, "--wd=/content", *server]
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), "LANG": "C.UTF-8",
            "PYTHONPATH": str(SITE), "FAKE_DRIVE_CREDENTIALS": str(self.credentials), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        with (self.folder / "jupyter.log").open("wb") as log:
            return subprocess.Popen(
                enter, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )


def free_port() -> int:
    """Return a port nobody listens on just now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def missing() -> str:
    """Return why no such machines can be had here, "" if they can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "not root on Linux: these tests make machines of namespaces"
    if tools := [tool for tool in ("unshare", "nsenter", "mount") if not shutil.which(tool)]:
        return f"{', '.join(tools)} not installed: these tests make machines of namespaces"
    for package in ("jupyter_server", "ipykernel"):
        if subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, check=False).returncode:
            return f"{package} not installed: it is what serves on a machine of these tests"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""
