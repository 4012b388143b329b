"""Upload status from rclone: the metadata files beside a mount's cache, and its command line.

Observed with rclone 1.60. ``<cache>/vfsMeta/<remote>/<path>`` has "Dirty" from the opening of a file for writing until
its upload succeeded, also over a kill of rclone. "Fingerprint" is the remote's description of the uploaded file. A
clean record is removed after --vfs-cache-max-age; a dirty one never is.

With --vfs-cache-mode off (the default) or minimal there are no such files. A file that is only written is then uploaded
during the write. close() returns when the remote has accepted it, or fails. An empty file is an exception: it is
uploaded after close() returned, and a file removed in the meantime reappears. A new file cannot be opened for reading
before its upload.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from supervisor.core.frozen import dataclass
from supervisor.core.ports import NotConfirmed
from supervisor.stores.mounted.mounts import mounts, resolve_to_mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.stores.mounted.mounts import Mount
    from supervisor.stores.upload_status.written_file import WrittenFile

CACHING, STREAMING = frozenset({"writes", "full"}), frozenset({"off", "minimal"})
DIR_CACHE_S = 300.0
_REMOTE = re.compile(r"(:?[^/:]+(?:\{[^}]*\})?):(.*)")
_DURATION = re.compile(r"([\d.]+)(ms|s|m|h|d|w|)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class Server:
    """Command line settings of the process that serves a mount. ``dir_cache_s``: longest age of a cached listing."""

    cache_mode: str
    cache: str
    dir_cache_s: float


class Rclone:
    """The upload status of one rclone mount."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._server = server_of(mount)
        self.kind = "rclone" if self._server is not None and self._server.cache_mode in CACHING | STREAMING else ""
        # because a file emptied to 0 bytes may reappear after its removal
        self.truncated_content = b"\n" if self._server is not None and self._server.cache_mode in STREAMING else b""

    def check(self, file: WrittenFile) -> str:
        """Accept "clean" only with the remote's fingerprint and for a file of this length."""
        if self._server is None or not self.kind:
            raise NotConfirmed("nothing here says whether rclone has uploaded it", possible=False)
        if self._server.cache_mode in STREAMING:
            return self.kind  # it was closed without an error and read back before this check
        records = self._records(self._server, file.path)
        if not records and not file.confirmed:
            # rclone makes the record with the file, so a missing one never appears later
            raise NotConfirmed("rclone has no record of its upload", possible=False)
        for each in records:
            if each.get("Dirty") is not False or not each.get("Fingerprint") or each.get("Size") != file.length:
                raise NotConfirmed("rclone has not uploaded it yet")
        return self.kind

    def cache(self) -> str | None:
        """Return the folder that holds files not yet uploaded."""
        return self._server.cache if self._server is not None and self._server.cache_mode in CACHING else None

    def _records(self, server: Server, path: str) -> list[Mapping[str, Any]]:
        """Return the records of a file. An unreadable record is being written and gives no information yet."""
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
    """Find the rclone process of a mount by its command line; None if no readable process matches.

    The youngest match wins: a dead mount may lie below a new one.
    """
    table = mounts()
    for pid in sorted((int(name) for name in os.listdir(processes) if name.isdigit()), reverse=True):
        with contextlib.suppress(OSError):  # processes end, and some are not readable
            arguments = _read_args(f"{processes}/{pid}/cmdline")
            if not arguments or "rclone" not in os.path.basename(arguments[0]):
                continue
            cwd = os.readlink(f"{processes}/{pid}/cwd")
            if any(resolve_to_mount(os.path.join(cwd, each), table)[0] == mount.point for each in arguments[1:]):
                return _server(arguments, _environ(f"{processes}/{pid}/environ"), cwd)
    return None


def seconds(duration: str) -> float | None:
    """Return the seconds of an rclone duration ("5m", "1h30m", "90"); None if it has none ("off")."""
    if not duration or _DURATION.sub("", duration):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(duration) if number)


def _server(arguments: Sequence[str], environ: Mapping[str, str], cwd: str) -> Server:
    def setting(name: str, default: str) -> str:
        given = environ.get(f"RCLONE_{name.upper().replace('-', '_')}", default)
        for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if flag == f"--{name}":
                given = following
            elif flag.startswith(f"--{name}="):
                given = flag.partition("=")[2]
        return given

    home = environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME', '/root')}/.cache"
    dir_cache_s = seconds(setting("dir-cache-time", ""))
    return Server(
        setting("vfs-cache-mode", "off").lower(),
        os.path.join(cwd, setting("cache-dir", f"{home}/rclone")),
        DIR_CACHE_S if dir_cache_s is None else dir_cache_s,
    )


def _record_folders(cache: str, source: str) -> list[str]:
    """Return the folders that may hold a remote's records. A mount's source is its name, which a local remote lacks."""
    remote = _REMOTE.fullmatch(source)
    above = os.path.join(cache, "vfsMeta")
    if remote:
        return [os.path.join(above, remote[1], remote[2].strip("/"))]
    try:
        names = [each for each in os.listdir(above) if each == "local" or each.startswith("local{")]
    except FileNotFoundError:
        return []
    return [os.path.join(above, each, source.strip("/")) for each in sorted(names)]


def _read_args(path: str) -> list[str]:
    with open(path, "rb") as opened:
        return [os.fsdecode(each) for each in opened.read().split(b"\0") if each]


def _environ(path: str) -> Mapping[str, str]:
    try:
        return dict(each.partition("=")[::2] for each in _read_args(path))
    except PermissionError:
        return os.environ
