"""Machines with a notebook on them: everything that happens there can be ended at once and wiped, like a Colab VM."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machines import Machine, until
from tests.drives import told
from tests.drives.drivefs_cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOK = ROOT / "hyperlpr_example" / "colab.ipynb"
CONTENT = Path("/content")
WAIT_S_MAX = 400.0
NOT_HERE = ("COLAB_", "TBE_", "KAGGLE_", "SUPERVISOR_", "VERTEX_", "JPY_")


class NotebookMachine:
    """A blank machine: its disk is ``folder``, what outlives it is elsewhere."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.local = folder, folder / "local"
        self.home, self.work = folder / "home", folder / "work"
        for each in (self.home, self.work):
            each.mkdir(parents=True)
        self._variables = variables
        self._children: list[subprocess.Popen[bytes]] = []

    def environ(self) -> dict[str, str]:
        """Return what every process of this machine finds in its environment."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(NOT_HERE)}
        kept.pop("PYTHONPATH", None)  # nothing of ours is on a blank machine's path
        own = {"HOME": self.home, "IPYTHONDIR": self.home / "ipython", "JUPYTER_RUNTIME_DIR": self.home / "runtime"}
        own |= {"SUPERVISOR_RUN_LOCAL": self.local, "JUPYTER_PLATFORM_DIRS": "1"}
        return {**kept, **{key: str(value) for key, value in own.items()}, **self._variables}

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command line on this machine."""
        return list(command)

    def run_all(self, notebook: Path = NOTEBOOK, folder: Path | None = None) -> RunAll:
        """Begin a "Run all" with nobody there."""
        out = self.folder / "executed.ipynb"
        command = [sys.executable, str(HERE / "run_all.py"), str(notebook), str(folder or self.work), str(out)]
        made = RunAll(self.inside(command), self.environ(), out)
        self._children.append(made.process)
        return made

    def status(self) -> dict[str, Any]:
        """Return the live status of the newest session here; empty while there is none."""
        found: dict[str, Any] = {}
        for path in sorted(self.local.glob("training-supervisor/*/*/status.json"), key=lambda each: each.parent.name):
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(path.read_text())
        return found

    def safe(self) -> int:
        """Return the newest step that is safe, as the session here says."""
        return int(self.status().get("checkpoints", {}).get("durable") or 0)

    def step(self) -> int:
        """Return how far the session here has come."""
        return int(self.status().get("step") or 0)

    def processes(self) -> list[int]:
        """Return everything that lives here."""
        return told.left_behind(self)  # type: ignore[arg-type]  # it asks for nothing but the local folder

    def end(self) -> None:
        """Kill all that lives here, at once."""
        for _ in range(3):  # because who is killed last may have started another meanwhile
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        until(lambda: not self.processes())
        for each in self._children:
            each.wait(WAIT_S_MAX)

    def wipe(self) -> None:
        """Take the machine away: nothing lives, and its disk is gone."""
        self.end()
        shutil.rmtree(self.folder)


class ColabMachine(NotebookMachine):
    """A hosted Colab machine with a fake google.colab, and a Drive that is a FUSE mount nobody outside it sees."""

    def __init__(self, folder: Path, cloud: Path, **variables: str) -> None:
        colab = {"COLAB_RELEASE_TAG": "release-colab_20260901", "COLAB_GPU": "", "TBE_RUNTIME_ADDR": "127.0.0.1:9",
                 "TBE_EPHEM_CREDS_ADDR": "127.0.0.1:9", "CLOUDSDK_CONFIG": "/content/.config",
                 "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                 "PYTHONPATH": f"{HERE / 'colab'}{os.pathsep}{HERE / 'hasty'}"}  # fmt: skip
        super().__init__(folder, **{**colab, "FAKE_COLAB": str(folder / "colab.json"), **variables})
        Cloud(cloud).make("/My Drive")
        drive = {
            "cloud": str(cloud),
            "cache": str(folder / "cache"),
            "control": f"colab-{folder}"[-100:],
            "root": str(ROOT),
        }
        (folder / "cache").mkdir()
        self.switch(hostname=True, consents=["granted"], ends=["mounted"], drive=drive)

    def switch(self, **told: Any) -> dict[str, Any]:
        """Say how google.colab behaves; return all that is said."""
        path = self.folder / "colab.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**known, **told}))
        return {**known, **told}

    def inside(self, command: Sequence[str]) -> list[str]:
        """Enter a mount namespace of its own: its /content is empty and its Drive is seen by nobody else."""
        CONTENT.mkdir(exist_ok=True)  # only the empty folder is made outside; it stays, as in tests.fleet.plane.world
        script = 'mount -t tmpfs tmpfs /content && mkdir /content/.config && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]


class RunAll:
    """One "Run all"."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], out: Path) -> None:
        self.log, self.out = out.with_suffix(".log"), out
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def text(self) -> str:
        """What it said outside the notebook."""
        return self.log.read_text("utf-8", "replace")

    def until(self, true: Callable[[], Any]) -> Any:
        """Wait until something is so, while it goes on."""
        return until(lambda: true() or self._ended())

    def wait(self) -> dict[str, str]:
        """Return what each cell shows, by the cell's id, when all have run without an error."""
        assert self.process.wait(WAIT_S_MAX) == 0, self.text
        return shown(json.loads(self.out.read_text()))

    def _ended(self) -> None:
        assert self.process.poll() is None, self.text


def shown(book: dict[str, Any]) -> dict[str, str]:
    """Return the text that each cell of an executed notebook shows."""
    return {cell["id"]: "".join(map(_text, cell.get("outputs", ()))) for cell in book["cells"]}


def uninterrupted(folder: Path, *words: str) -> Path:
    """Return the store of a run of the toy to which nothing happened."""
    machine = Machine(folder / "machine", folder / "supervisor")
    done = machine.run("start", str(ROOT / "trainers" / "toy.py"), "--no-install", "--", *words)
    assert done.returncode == 0, done.stderr
    return machine.store


def _text(output: dict[str, Any]) -> str:
    if output["output_type"] == "error":
        return "\n".join(output["traceback"])
    found = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "".join(found)
