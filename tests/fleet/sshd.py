"""A real sshd on this computer's loopback, with keys of its own, that can be stopped in the middle and killed."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machines import until
from tests.fleet.plane.vm_box import free_port
from tests.machines.machine import children

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
HOST = "lab-machine"


def missing() -> str:
    """Why no sshd can be started here."""
    lacking = [tool for tool in ("ssh", "ssh-keygen", SSHD) if shutil.which(tool) is None]
    return f"{', '.join(lacking)} not installed: this starts an sshd" if lacking else ""


class RealSshd:
    """``environ`` makes ssh find it under the name HOST, with the key it takes; ``home`` is the user's home there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._port = folder, free_port()
        self.home = folder / "home"
        self.home.mkdir()
        for name in ("host_key", "user_key", "wrong_key"):
            _keygen(folder / name)
        (folder / "authorized").write_text((folder / "user_key.pub").read_text())
        (folder / "sshd_config").write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n"
            f'PermitRootLogin yes\nMaxStartups 100\nMaxSessions 100\nSetEnv "HOME={self.home}"\n'
        )
        key = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self._port} {key}")
        self.config("user_key")
        self.environ = {
            **os.environ,
            "SUPERVISOR_SSH_CONFIG": str(folder / "ssh_config"),
            "SUPERVISOR_SSH_PYTHON": sys.executable,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.up()

    def config(self, key: str, *, known_hosts: str = "known_hosts", port: int | None = None) -> None:
        (self.folder / "ssh_config").write_text(
            f"Host {HOST}\nHostName 127.0.0.1\nPort {port or self._port}\nUser {getpass.getuser()}\n"
            f"IdentityFile {self.folder}/{key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder}/{known_hosts}\nGlobalKnownHostsFile /dev/null\n"
        )

    def up(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = self.folder / "sshd.log"
        log.write_bytes(b"")
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        until(lambda: "Server listening" in log.read_text() or self._process.poll() is not None, 60)
        assert self._process.poll() is None, log.read_text()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """The host hangs: it takes connections, and no answer comes."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def down(self) -> None:
        """Every connection breaks and none is taken; what was started over them goes on."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        found = level = [self._process.pid]
        while level:
            level = [child for pid in level for child in children(pid) if _is_sshd(child)]
            found = found + level
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    except OSError:
        return False


def _keygen(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(file)], check=True)
