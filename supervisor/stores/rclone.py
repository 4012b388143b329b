"""What rclone says about uploads: the small files it keeps beside the cache of a mount, and its own command line.

Seen with rclone 1.60: ``<cache>/vfsMeta/<remote>/<path>`` says "Dirty" from the moment a file is opened for writing until its
upload ended well, also over a kill of rclone; a "Fingerprint" is what the remote said of it then. What is clean goes after
--vfs-cache-max-age; what is dirty never goes. With --vfs-cache-mode off (its default) or minimal there are no such files: what
is only written is then sent while it is written, and close() returns when the remote has taken it, or fails. Not so a file
into which no byte was written: that is sent after close() returned, and a file that was removed meanwhile comes back by it. A
new one cannot be opened to be read before it is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from supervisor.core.ports import Unconfirmed
from supervisor.core.values import dataclass
from supervisor.stores.mounts import located, mounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.stores.mounts import Mount
    from supervisor.stores.uploads import Written

CACHING, STREAMING = frozenset({"writes", "full"}), frozenset({"off", "minimal"})
DIR_CACHE_S = 300.0
_REMOTE = re.compile(r"(:?[^/:]+(?:\{[^}]*\})?):(.*)")
_DURATION = re.compile(r"([\d.]+)(ms|s|m|h|d|w|)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class Server:
    """How the process that serves a mount was started. ``dir_cache_s``: how long it may show an old listing."""

    cache_mode: str
    cache: str
    dir_cache_s: float


class Rclone:
    """The evidence of one rclone mount."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._server = server_of(mount)
        self.kind = "rclone" if self._server is not None and self._server.cache_mode in CACHING | STREAMING else ""
        # because what is emptied without a byte may come back after its removal
        self.remains = b"\n" if self._server is not None and self._server.cache_mode in STREAMING else b""

    def see(self, file: Written) -> str:
        """Believe "clean" only with the remote's own word on it, and of a file of this length."""
        if self._server is None or not self.kind:
            raise Unconfirmed("nothing here says whether rclone has uploaded it", possible=False)
        if self._server.cache_mode in STREAMING:
            return self.kind  # it was closed without an error and read back, or it would not be asked about
        records = self._records(self._server, file.path)
        if not records and not file.confirmed:
            # the record is made with the file, so what has none now never gets one
            raise Unconfirmed("rclone has no record of its upload", possible=False)
        for each in records:
            if each.get("Dirty") is not False or not each.get("Fingerprint") or each.get("Size") != file.length:
                raise Unconfirmed("rclone has not uploaded it yet")
        return self.kind

    def cache(self) -> str | None:
        """Return where what is not uploaded lies."""
        return self._server.cache if self._server is not None and self._server.cache_mode in CACHING else None

    def _records(self, server: Server, path: str) -> list[Mapping[str, Any]]:
        """Return what is recorded of a file; a record that cannot be read is being written, and says nothing yet."""
        path = os.path.normpath(f"{self._mount.root}/{path}").strip("/")
        records: list[Mapping[str, Any]] = []
        for folder in _record_folders(server.cache, self._mount.source):
            try:
                with open(os.path.join(folder, path), "rb") as opened:
                    record = json.loads(opened.read())
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError):
                record = None
            records.append(record if isinstance(record, dict) else {})
        return records


def server_of(mount: Mount, processes: str = "/proc") -> Server | None:
    """Find the rclone that serves a mount by its command line; None if none of those that we may look at does.

    Of several the youngest: a dead mount may lie below a new one.
    """
    table = mounts()
    for pid in sorted((int(name) for name in os.listdir(processes) if name.isdigit()), reverse=True):
        with contextlib.suppress(OSError):  # processes end, and some are not ours to look at
            arguments = _split(f"{processes}/{pid}/cmdline")
            if not arguments or "rclone" not in os.path.basename(arguments[0]):
                continue
            here = os.readlink(f"{processes}/{pid}/cwd")
            if any(located(os.path.join(here, each), table)[0] == mount.point for each in arguments[1:]):
                return _server(arguments, _environ(f"{processes}/{pid}/environ"), here)
    return None


def seconds(duration: str) -> float | None:
    """Return what a duration as rclone writes it means ("5m", "1h30m", "90"); None if it means none ("off")."""
    if not duration or _DURATION.sub("", duration):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(duration) if number)


def _server(arguments: Sequence[str], environ: Mapping[str, str], here: str) -> Server:
    def setting(name: str, default: str) -> str:
        given = environ.get(f"RCLONE_{name.upper().replace('-', '_')}", default)
        for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if flag == f"--{name}":
                given = following
            elif flag.startswith(f"--{name}="):
                given = flag.partition("=")[2]
        return given

    home = environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME', '/root')}/.cache"
    told = seconds(setting("dir-cache-time", ""))
    return Server(
        setting("vfs-cache-mode", "off").lower(),
        os.path.join(here, setting("cache-dir", f"{home}/rclone")),
        DIR_CACHE_S if told is None else told,
    )


def _record_folders(cache: str, source: str) -> list[str]:
    """Return where the records of a remote can be. A mount's source is its name, which a local folder's lacks."""
    remote = _REMOTE.fullmatch(source)
    above = os.path.join(cache, "vfsMeta")
    if remote:
        return [os.path.join(above, remote[1], remote[2].strip("/"))]
    try:
        names = [each for each in os.listdir(above) if each == "local" or each.startswith("local{")]
    except FileNotFoundError:
        return []
    return [os.path.join(above, each, source.strip("/")) for each in sorted(names)]


def _split(path: str) -> list[str]:
    with open(path, "rb") as opened:
        return [os.fsdecode(each) for each in opened.read().split(b"\0") if each]


def _environ(path: str) -> Mapping[str, str]:
    try:
        return dict(each.partition("=")[::2] for each in _split(path))
    except PermissionError:
        return os.environ
