"""A package is entered by its doors: other packages import these modules of it and no others.

A module that is no door can be changed by a reader of its package alone. Imports under TYPE_CHECKING and inside
functions count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.architecture.source_tree import PACKAGE, imports, modules

if TYPE_CHECKING:
    from pathlib import Path

# Package -> the modules that others import, each with what they need of it.
DOORS = {
    "cli.notebook": {
        "detached": "runs the supervisor that a cell has started",
        "magics": "registers the magic commands",
    },
    "engine.file_watch": {
        "complete_files": "files that are known to be complete",
        "discovery": "finds files that no hook names",
        "scan": "marks of the files in a folder",
        "stable_copy": "copies a file that must not change meanwhile",
        "watch_options": "the option --watch-dir",
        "watcher": "the files of one attempt",
    },
    "engine.resume": {
        "fetch": "a checkpoint from the store to the local disk",
        "import_run": "a run from a read-only store",
        "packed": "compressed files, for those who read a store themselves",
        "rollback_records": "records of a rollback",
        "staging": "staged folders",
    },
    "engine.resume_test": {
        "comparison": "the result, and the comparison of two runs",
        "rehearsal": "kills, resumes and compares",
    },
    "engine.trainer_process": {
        "launcher": "starts, signals and ends the trainer",
        "log_capture": "names of the captured logs",
        "orphans": "trainers that outlived their supervisor",
        "process_identity": "a process, so that its number is not mistaken for another's",
    },
    "engine.unmodified": {
        "restore": "files back to where the script reads them",
        "script_sources": "reads a script's source",
        "session": "checkpoints of a script's files",
        "snapshot": "one snapshot of watched files",
        "snapshot_series": "snapshots that share files",
    },
    "engine.upload": {
        "durability": "asks a store for its confirmation",
        "fenced_store": "the store of one session, which ends when another session takes over",
        "prune": "removes what the retention policy gives up",
        "session_store": "all that a session does with its store",
        "step_log": "the step log in a store",
        "uploader": "writes a file that may be there from an earlier try",
    },
    "environments": {
        "installed": "what an interpreter has installed",
        "prepare": "makes the environment of a script",
        "requirements.script_requirements": "what a script imports",
        "tool_env": "the supervisor's own packages",
        "wheels": "wheels that a store keeps",
    },
    "fleet.agent": {
        "agent": "serves a machine",
        "agent_paths": "folders, store and clock of the machine",
        "agent_status": "status.json, which the computer at home polls",
    },
    "fleet.provisioners.colab": {},  # the table of provisioners names it
    "fleet.transfer": {
        "acks": "writes acknowledgements at home",
        "inbox": "names of the files that a machine is sent, and reads them there",
        "outbox": "cuts a machine's store into parts",
        "part": "format of a part",
        "reassembly": "puts files together at home",
    },
    "stores.mounted": {
        "known_mounts": "refuses a drive's place while the drive is not mounted",
        "mounts": "the table of mounts",
    },  # the table of stores names the store itself
    "stores.upload_status": {
        "rclone": "what is known of an rclone mount before it is used",
        "status": "the client of a drive",
        "written_file": "the file that the client is asked about",
    },
    "trainer.save": {
        "buffer": "host memory that adapters copy into",
        "checkpoint_folder": "a checkpoint that is written or read",
        "companion_files": "files that are saved beside the state",
        "saver": "saves in the background",
        "trained_model": "public: loads a model out of a checkpoint",
        "writer": "names of staged folders",
    },
    "trainer.state": {
        "capture": "the attached objects",
        "rng": "random generators",
        "script_classes": "classes of a script, found again after a restart",
        "tree": "differences between two states",
        "typed_json": "values that are no tensors",
    },
}


def entered(package: Path, name: str) -> dict[str, set[str]]:
    """Return the modules of a package that are imported from outside of it, and by which."""
    prefix = f"{package.name}.{name}."
    found: dict[str, set[str]] = {}
    for user, used in imports(package).items():
        if not f"{user}.".startswith(prefix):
            for module in used:
                if module.startswith(prefix):
                    found.setdefault(module.removeprefix(prefix), set()).add(user)
    return found


@pytest.mark.parametrize("name", DOORS)
def test_a_package_is_entered_by_its_doors(name: str) -> None:
    found = entered(PACKAGE, name)
    assert f"supervisor.{name}" in modules()
    assert {module: users for module, users in found.items() if module not in DOORS[name]} == {}
    assert DOORS[name].keys() <= found.keys(), "a door that no other package uses leaves the table"
    assert all(DOORS[name].values()), "a door says what others need of it"


def test_an_import_past_a_door_is_found(tmp_path: Path) -> None:
    root = tmp_path / "house"
    for file, text in {
        "__init__": "",
        "room/__init__": "",
        "room/door": "from house.room import inner",
        "room/inner": "",
        "hall": "def late():\n    from house.room import inner\n",
    }.items():
        path = root / f"{file}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    assert entered(root, "room") == {"inner": {"house.hall"}}
