"""Stores that somebody else has written into: a golden run with records that are forged so that every hash is right."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint import manifest_name
from supervisor.core.content import CONTENT_FILE, sealed
from supervisor.core.digest import SHA256, digest_of
from supervisor.engine.place import RunPlace
from supervisor.stores.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUN = RunPlace("golden")
PLAIN = RunPlace("plain")


class Forged:
    """A copy of the golden store, and what an attacker can do in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        shutil.copytree(GOLDEN / "store", self.root)

    @property
    def store(self) -> FolderStore:
        """The store as a victim opens it."""
        return FolderStore(str(self.root))

    def manifests(self, run: RunPlace = RUN) -> list[Path]:
        """The run's manifests, oldest first."""
        return sorted((self.root / run.name).rglob("manifest-*.json"))

    def newest(self, run: RunPlace = RUN) -> Path:
        """The newest manifest."""
        return self.manifests(run)[-1]

    def forge(self, change: Callable[[dict[str, Any]], object], manifest: Path | None = None) -> Path:
        """Change a manifest and give it the name of its new hash."""
        manifest = manifest or self.newest()
        told = json.loads(manifest.read_bytes())
        change(told)
        body = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        forged = manifest.with_name(manifest_name(int(manifest.name[9:15]), body))
        manifest.unlink()
        forged.write_bytes(body)
        return forged

    def replace_file(self, name: str, body: bytes, run: RunPlace = RUN) -> None:
        """Replace one of the newest checkpoint's files, its digest told right in ``checkpoint.json`` and the manifest."""
        folder = self.newest(run).parent
        (folder / name).write_bytes(body)
        kept = json.loads((folder / CONTENT_FILE).read_bytes())
        for each in kept["files"]:
            if each["name"] == name:
                each |= {"bytes": len(body), "digest": digest_of((body,), SHA256)}
        content = (
            body
            if name == CONTENT_FILE
            else sealed({key: value for key, value in kept.items() if key not in {"format", "version", "digest"}})
        )
        (folder / CONTENT_FILE).write_bytes(content)
        bodies = {CONTENT_FILE: content, name: body}

        def tell(told: dict[str, Any]) -> None:
            for each in told["files"]:
                if each["name"] in bodies:
                    given = bodies[each["name"]]
                    each |= {"bytes": len(given), "digest": digest_of((given,), SHA256)}

        self.forge(tell, self.newest(run))


def seal(told: dict[str, Any]) -> bytes:
    """``checkpoint.json`` of any content, under a right seal."""
    above = json.dumps(told, indent=1).removesuffix("\n}").encode()
    return above + f',\n "digest": "sha256:{hashlib.sha256(above).hexdigest()}"\n}}'.encode()
