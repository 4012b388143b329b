"""Makes the golden records beside it: ``python tests/golden/make.py [FOLDER]``.

They were made once, by the version of the 30th of November 2026, and stay: every later version reads them. Made again, they
would be records of another version, so that is only for a new folder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SMALL = "import sys, supervisor.core.sharing as s; s.SHARED_BYTES_MIN = 1_000; from supervisor.__main__ import main; sys.exit(main())"
SAVES = ("--save-every", "5steps", "--keep-last", "2", "--no-install", "--settle", "0s")


class Place:
    """A blank machine in a folder whose path tells nothing of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder, folder / "project"
        shutil.copytree(
            ROOT / "supervisor", folder / "checkout" / "supervisor", ignore=shutil.ignore_patterns("__pycache__")
        )
        for name in ("trainers", "pyproject.toml", "requirements"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / "checkout" / name)
        shutil.copytree(HERE / "project", self.project)

    def run(self, *words: str, store: bool = True, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of the product to its end and return what it printed."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR_")}
        own = {
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(self.folder / "checkout"),
            "SUPERVISOR_RUN_LOCAL": str(self.folder / "local"),
            "SUPERVISOR_LOCAL_MACHINES": str(self.folder / "machines"),
            "SUPERVISOR_RUN_FIRMWARE": "",
        }
        verb, *rest = words
        command = [
            sys.executable,
            "-c",
            SMALL,
            verb,
            *(("--store", str(self.folder / "store")) if store else ()),
            *rest,
        ]
        done = subprocess.run(
            command,
            cwd=self.project,
            env=kept | own,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode not in codes:
            raise SystemExit(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def main(into: Path) -> None:
    """Make all of it in a temporary folder and copy it here."""
    with tempfile.TemporaryDirectory(prefix="golden-", dir="/tmp") as folder:
        place = Place(Path(folder))
        told: dict[str, str] = {}
        shutil.rmtree(place.folder / "local", ignore_errors=True)
        told["start-1.jsonl"] = place.run(
            "start", "golden.py", *SAVES, "--max-restarts", "0", "--json", "--", "--stop-after", "12", codes=(1, 93)
        )
        told["start-2.jsonl"] = place.run("start", "golden.py", *SAVES, "--on-nan", "rollback", "--json")
        files = ("--watch", "out", "--resume-args", "--resume {checkpoint}", "--save-every", "300ms")
        told["start-plain.jsonl"] = place.run("start", "plain.py", *files, *SAVES[2:], "--json")
        place.run("launch", "golden.py", "--on", "local", "--no-install", "--", store=False)
        for name in ("golden", "plain"):
            told[f"status-{name}.json"] = place.run("status", name, "--json")
            told[f"checkpoints-{name}.json"] = place.run("checkpoints", name, "--json")
        (journal,) = place.folder.glob("local/training-supervisor/state/**/journal.jsonl")
        told["fleet-journal.jsonl"] = journal.read_text()
        shutil.copytree(place.folder / "store", into / "store", dirs_exist_ok=True)
        (into / "told").mkdir(exist_ok=True)
        for name, text in told.items():
            (into / "told" / name).write_text(text)
    _rename_machine(into)


def _rename_machine(into: Path) -> None:
    """No record that a hash binds names the machine; the others name one that there is not."""
    for path in (each for folder in ("store", "told") for each in (into / folder).rglob("*.json*") if each.is_file()):
        text = path.read_text(errors="surrogateescape")
        assert str(ROOT) not in text, f"{path} names this checkout"
        named = text.replace(json.dumps(socket.gethostname()), '"golden"')
        if named != text:
            path.write_text(named, errors="surrogateescape")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
