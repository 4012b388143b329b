"""Where things made or fetched once are kept, and how a file gets there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """$HYPERLPR_CACHE, else the user's cache folder, else a temporary one where that cannot be written."""
    chosen = os.environ.get("HYPERLPR_CACHE")
    wanted = Path(chosen) if chosen else _users_cache() / "hyperlpr_example"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError:
        wanted = Path(tempfile.gettempdir()) / f"hyperlpr_example-{os.getuid()}"
        wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write under another name, then rename: a reader never meets half a file, even after a kill or a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _users_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
