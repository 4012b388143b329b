"""Folders stay small enough to read, and a module that serves one other module lies with it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from supervisor.fleet import job_bundle
from tests.architecture.source_tree import PACKAGE, importers, modules, package_of

if TYPE_CHECKING:
    from pathlib import Path

MODULES_MAX, MODULES_USUAL = 16, 14
CROWDED = {
    "supervisor.cli.verbs": "one file a verb: a reader looks for the verb, not for a subject",
    "supervisor.engine": "the loop and what each of its parts uses; use cases lie in packages",
}
# A module with one importer elsewhere -> why it lies where it lies.
APART = {
    "supervisor.cli.export_model": "`checkpoints export` of a model; cli.verbs holds one file a verb and nothing else",
    "supervisor.cli.verbs.resume": "a verb; notebook.magics reads its options, the command line finds it by name",
    "supervisor.core.fleet.decide": "the decisions of the fleet are pure; the controller performs them",
    "supervisor.core.session.history": "the summary of a session is pure; engine.run_catalog.history reads and writes it",
    "supervisor.core.session.state_machine": "the decisions of a session are pure; the loop performs them",
    "supervisor.engine.file_watch.complete_files": "one of the three parts of the watching of files; one session uses all three",
    "supervisor.engine.file_watch.discovery": "one of the three parts of the watching of files; one session uses all three",
    "supervisor.engine.file_watch.watcher": "one of the three parts of the watching of files; one session uses all three",
    "supervisor.engine.host.checkup": "the checks of `doctor`; the verb only prints them",
    "supervisor.engine.resume_test.rehearsal": "the use case of `rehearse`; the verb only parses and prints",
    "supervisor.engine.run_catalog.log_reader": "the use case of `logs`; the verb only parses and prints",
    "supervisor.engine.run_catalog.remove_run": "the use case of `rm`; the verb only parses and prints",
    "supervisor.fleet.agent.agent": "the use case of `agent`; the verb only parses",
    "supervisor.fleet_composition": "the composition root of the controller, beside that of a session",
    "supervisor.platforms.colab_drive": "mounts Drive: knowledge of the platform Colab, not of notebooks",
    "supervisor.stores.upload_status.status": "the clients of drives make a package; the worker on a drive asks it",
    "supervisor.trainer.adapters.tensorflow.objects": "TensorFlow's own objects; a Keras model on TensorFlow holds them too",
    "supervisor.trainer.loops.lightning.callback": "public: scripts import it by the table of trainer.loops",
    "supervisor.trainer.loops.transformers.callback": "public: scripts import it by the table of trainer.loops",
    "supervisor.views.checkpoints": "the view of `checkpoints`; cli holds no layout",
    "supervisor.views.live_text": "the view of `status --watch`; cli holds no layout",
    "supervisor.views.rehearsal": "the view of `rehearse`; cli holds no layout",
}


def counts(package: Path) -> Counter[str]:
    """Return how many modules each folder has; ``__init__`` and ``__main__`` are none."""
    return Counter(
        name.rpartition(".")[0]
        for name, path in modules(package).items()
        if path.name not in {"__init__.py", "__main__.py"}
    )


def apart(package: Path) -> dict[str, str]:
    """Return each module whose one importer lies outside of the module's package and of the packages above it."""
    found = {}
    for name, users in importers(package).items():
        if len(users) != 1 or modules(package)[name].name in {"__init__.py", "__main__.py"}:
            continue
        (user,) = users
        home = package_of(user, package)
        if not f"{name.rpartition('.')[0]}.".startswith(f"{home}."):
            found[name] = user
    return found


def test_a_folder_has_at_most_sixteen_modules() -> None:
    found = counts(PACKAGE)
    assert not {folder: count for folder, count in found.items() if count > MODULES_MAX}
    crowded = {folder for folder, count in found.items() if count > MODULES_USUAL}
    assert crowded == CROWDED.keys(), "make packages of it, or say why not; a folder that got smaller leaves the list"


def test_a_module_with_one_importer_lies_with_it() -> None:
    found = apart(PACKAGE)
    assert {name: user for name, user in found.items() if name not in APART} == {}, "move it there, or say why not"
    assert APART.keys() <= found.keys(), "these lie with their importer now, or have several: take them off the list"


@pytest.mark.parametrize("reason", [*CROWDED.values(), *APART.values()])
def test_an_exception_has_a_reason(reason: str) -> None:
    assert len(reason.split()) > 3


def test_a_module_that_lies_apart_is_found(tmp_path: Path) -> None:
    root = tmp_path / "house"
    for file, text in {
        "__init__": "",
        "far/__init__": "",
        "far/tool": "",
        "far/shared": "",
        "near/__init__": "",
        "near/user": "from house.far import shared, tool\nfrom house.near import helper\nfrom house.near.below import deep",
        "near/helper": "def late():\n    from house.far.shared import name",
        "near/below/__init__": "",
        "near/below/deep": "",
    }.items():
        path = root / f"{file}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    assert apart(root) == {"house.far.tool": "house.near.user"}
    assert counts(root) == {"house.far": 2, "house.near": 2, "house.near.below": 1}


def test_no_package_has_a_name_that_bundles_and_notebooks_leave_out():
    """A person's folder is copied without its results; the package must not lose a part by such a name."""
    notebook = (PACKAGE.parent / "hyperlpr_example" / "colab.ipynb").read_text()
    patterns = set(
        re.findall(r'\\"([\w.]+)\\"', next(line for line in notebook.splitlines() if "ignore_patterns" in line))
    )
    assert {"runs", "checkpoints"} <= patterns
    names = {part for path in PACKAGE.rglob("*.py") for part in path.relative_to(PACKAGE).parts}
    assert names.isdisjoint(patterns | job_bundle.LEFT_OUT)
