"""The notebook as it is committed, run in a real kernel: a machine is taken away, "Run all" on the next goes on bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.machines import final_state
from tests.drives import told
from tests.drives.drivefs_cloud import Cloud
from tests.notebook.machine import NOTEBOOK, ROOT, ColabMachine, uninterrupted

if TYPE_CHECKING:
    from pathlib import Path

TOY = ("--steps", "300", "--step-ms", "8", "--state-mb", "0.3")
SLOW = (*TOY[:2], "--step-ms", "200", *TOY[4:])  # so that it is taken away in the middle, however late that is seen
OPTIONS = ("--no-install", "--save-every", "300ms", "--settle", "300ms", "--keep-machine")
VARIABLES = {"SUPERVISOR_NOTEBOOK_SCRIPT": "trainers/toy.py"}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return final_state(uninterrupted(tmp_path_factory.mktemp("reference"), *TOY), "toy")


def test_the_notebook_is_clean() -> None:
    book = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert [cell["id"] for cell in cells] == ["settings", "install", "mount", "start", "watch", "again"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None]
    assert [cell["id"] for cell in cells if cell["metadata"]] == ["install"], "Colab shows its title, not its code"
    assert any(line.startswith('REPOSITORY = ""') for line in cells[0]["source"])
    assert "http" not in json.dumps(book["cells"]), "it names no address"


@pytest.mark.slow
def test_run_all_on_a_blank_colab_machine_goes_on_where_the_last_one_was_taken_away(
    new_machine, tmp_path: Path, wanted
) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed: it runs notebooks")
    cloud = tmp_path / "cloud"
    first = new_machine(ColabMachine, cloud, **VARIABLES, SUPERVISOR_NOTEBOOK_OPTIONS=" ".join([*OPTIONS, "--", *SLOW]))
    first.switch(ends=["mount failed", "mounted"])  # as on a machine that has not been told yet who its user is
    lost = first.run_all(folder=ROOT / "hyperlpr_example")
    safe = lost.until(first.safe)
    first.wipe()

    second = new_machine(ColabMachine, cloud, **VARIABLES, SUPERVISOR_NOTEBOOK_OPTIONS=" ".join([*OPTIONS, "--", *TOY]))
    seen = second.run_all(folder=ROOT / "hyperlpr_example").wait()
    panel = seen["start"]
    going_on = re.search(r"going on from step ([\d,]+): first new step .*after this cell began: mounting Drive", panel)
    assert going_on, panel
    assert int(going_on[1].replace(",", "")) >= safe
    assert panel.startswith("toy: finished")
    assert "step 300/300 (100 %)" in panel
    assert "safe in Drive: step 300" in panel
    assert re.search(r"mounting Drive .*supervisor's start .*restore .*start-up to the first step", panel)
    assert "Mounted at /content/drive" in seen["mount"]
    assert "toy: SUCCEEDED" in seen["watch"]
    assert re.search(r"toy +SUCCEEDED +300/300", seen["again"])
    assert second.switch()["asked"] == 1, "the consent is asked for once"
    got = final_state(Cloud(cloud).tree / "MyDrive" / "supervisor", "toy")
    assert told.same(got, wanted)


@pytest.mark.slow
def test_run_all_elsewhere_unpacks_the_supervisor_and_goes_on_bit_for_bit(new_machine, tmp_path: Path, wanted) -> None:
    pytest.importorskip("nbclient", reason="nbclient is not installed: it runs notebooks")
    store = tmp_path / "kept"
    options = {
        **VARIABLES,
        "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
        "SUPERVISOR_NOTEBOOK_REPOSITORY": str(archive(tmp_path)),
    }
    words = " ".join([*OPTIONS, "--store", str(store), "--"])
    first = new_machine(**options, SUPERVISOR_NOTEBOOK_OPTIONS=" ".join([words, *SLOW]))
    lost = first.run_all()
    lost.until(first.safe)
    first.wipe()
    second = new_machine(**options, SUPERVISOR_NOTEBOOK_OPTIONS=" ".join([words, *TOY]))
    seen = second.run_all().wait()
    assert f"the supervisor is in {second.work}" in seen["install"]
    assert "nothing to mount here" in seen["mount"]
    assert re.search(r"going on from step ([\d,]+), verified", seen["start"]), seen["start"]
    assert "toy: SUCCEEDED" in seen["watch"]
    got = final_state(store, "toy")
    assert told.same(got, wanted)


def archive(folder: Path) -> Path:
    """Pack the checkout as people download it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "supervisor", "trainers"], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() or ["supervisor", "trainers"]
    path = folder / "training-supervisor.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as packed:
        for name in names:
            if (ROOT / name).exists():
                packed.add(ROOT / name, f"training-supervisor-main/{name}")
    return path
