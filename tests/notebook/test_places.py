"""The notebook finds the product where Colab users put it: a folder, zip or wheel in Drive, or at an address given once."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.cli import pack, shipped
from tests.drives.drivefs_cloud import Cloud
from tests.notebook.machine import NOTEBOOK, ColabMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
pytest.importorskip("nbclient", reason="nbclient is not installed: it runs notebooks")
UNPACKED = "the supervisor is in /content/unpacked-supervisor/"


class Place:
    """Google Drive as a person left it, and a blank Colab machine that runs the notebook's first cells."""

    def __init__(self, tmp_path: Path, new_machine) -> None:
        self.folder, self.new_machine = tmp_path, new_machine
        self.drive = Cloud(tmp_path / "cloud").tree / "MyDrive"
        self.product = self.drive / "training-supervisor"
        self.product.mkdir(parents=True)
        self.made = 0

    def find(self, address: str = "", **told) -> tuple[str, str]:
        """Run the cells that find the product; return what they show, and what a cell behind them tells of it."""
        check = "import supervisor\nprint(supervisor.__file__)\n%supervisor --version"
        *_, found, checked = self._run([*self._finding(address), code("check", check)], told)
        return found, checked

    def refused(self, *addresses: str, **told) -> list[list[str]]:
        """Run those cells with one address after another, where none can be had; return the lines that each shows last."""
        cells = [cell for address in addresses for cell in self._finding(address)]
        for number, cell in enumerate(cells):
            cell |= {"metadata": {"tags": ["raises-exception"]}, "id": f"cell-{number}"}
        texts = self._run(cells, told)[1::2]
        assert not [text for text in texts if "Traceback" in text]
        lines = [[line for line in text.splitlines() if line.strip()][-2:] for text in texts]
        assert all(what.startswith("error: ") and hint.startswith("  try: ") for what, hint in lines), lines
        return lines

    def _finding(self, address: str) -> list[dict[str, Any]]:
        source = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"]}
        settings = source["settings"].replace('REPOSITORY = ""', f"REPOSITORY = {address!r}")
        return [code("settings", settings), code("install", source["install"])]

    def _run(self, cells: list[dict[str, Any]], told: dict[str, Any]) -> list[str]:
        self.made += 1
        notebook = self.folder / f"finding-{self.made}.ipynb"
        notebook.write_text(json.dumps({**json.loads(NOTEBOOK.read_text()), "cells": cells}))
        machine = self.new_machine(ColabMachine, self.folder / "cloud")
        machine.switch(**told)
        return list(machine.run_all(notebook, folder="/content").wait().values())


def code(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "id": name, "metadata": {}, "outputs": [], "source": source}


@pytest.fixture
def place(tmp_path: Path, new_machine) -> Place:
    return Place(tmp_path, new_machine)


def test_cell_1_is_five_lines_at_most() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells[0]["source"]) <= 5


def test_the_zip_of_pack_is_found_after_a_mount_that_failed_at_first(place: Place) -> None:
    assert pack.run(["-o", str(place.product)]) == 0
    said, checked = place.find(ends=["mount failed", "mounted"])
    assert UNPACKED in said
    assert "from /content/drive/MyDrive/training-supervisor/training-supervisor-0.1.0.zip" in said
    assert "/content/unpacked-supervisor/" in checked
    assert "training-supervisor 0.1.0" in checked


def test_a_copied_folder_is_found_and_read_from_this_machines_disk(place: Place) -> None:
    for name, path in shipped.product().items():
        (place.product / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place.product / name)
    (place.product / "runs").mkdir()
    said, checked = place.find()
    assert UNPACKED in said
    assert "from /content/drive/MyDrive/training-supervisor\n" in said
    assert "training-supervisor 0.1.0" in checked
    assert not list(place.product.rglob("__pycache__")), "nothing is written into the person's folder"


def test_the_newest_of_several_wheels_and_archives_is_taken_and_a_broken_one_is_named(place: Place) -> None:
    wheel(place.product / "training_supervisor-0.1.0-py3-none-any.whl", "0.1.0")
    wheel(place.product / "training_supervisor-0.10.0-py3-none-any.whl", "0.10.0")
    wheel(place.drive / "training-supervisor-main (1).zip", "0.9.0", below="training-supervisor-main/")
    (place.product / "training_supervisor-1.0.0-py3-none-any.whl").write_bytes(b"half of an upload")
    said, checked = place.find()
    assert "training_supervisor-0.10.0-py3-none-any.whl" in said.splitlines()[-1]
    assert "training_supervisor-1.0.0-py3-none-any.whl is left out" in said
    assert "training-supervisor 0.10.0" in checked


def test_an_address_for_git_is_given_once_and_kept_in_drive(place: Place, served: Served) -> None:
    said, checked = place.find(served.repository())
    assert f"from {served.address}/training-supervisor.git" in said
    assert "training-supervisor 0.1.0" in checked
    assert (place.product / "address.txt").read_text() == f"{served.address}/training-supervisor.git"
    said, _ = place.find()
    assert f"from {served.address}/training-supervisor.git" in said


def test_a_zip_at_an_address_is_downloaded(place: Place, served: Served) -> None:
    assert pack.run(["-o", str(served.folder / "product.zip")]) == 0
    said, checked = place.find(f"{served.address}/product.zip?dl=1")
    assert f"from {served.address}/product.zip?dl=1" in said
    assert "training-supervisor 0.1.0" in checked


def test_nothing_there_is_said_in_two_lines(place: Place) -> None:
    nowhere = "http://127.0.0.1:9/x"
    seen = place.refused("", "", f"{nowhere}.git", f"{nowhere}.whl", ends=["domain", "mounted"])
    assert "(Drive is not mounted: The domain policy" in seen[0][0]
    assert "no folder, zip or wheel of the supervisor" in seen[1][0]
    assert "not mounted" not in seen[1][0]
    assert "`python3 -m supervisor pack` writes a zip" in seen[1][1]
    assert f"cannot be fetched from {nowhere}.git: " in seen[2][0]
    assert f"cannot be fetched from {nowhere}.whl: " in seen[3][0]
    assert "correct REPOSITORY in cell 1" in seen[3][1]
    assert not (place.product / "address.txt").exists(), "an address that gave nothing is not kept"


def wheel(path: Path, version: str, below: str = "") -> None:
    """Write the product's files, as another version, into an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, file in shipped.product().items():
            if name.startswith("supervisor/"):
                text = file.read_text()
                packed.writestr(below + name, text.replace('"0.1.0"', f'"{version}"'))


class Served:
    """A web server on this machine's own address."""

    def __init__(self, folder: Path) -> None:
        class Silent(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_given) -> None:
                pass

        self.folder = folder
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Silent, directory=str(folder))
        )
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def repository(self) -> str:
        """Serve a repository of the product; return its address."""
        work, bare = self.folder / "work", self.folder / "training-supervisor.git"
        for name, path in shipped.product().items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, work / name)
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        for command in (
            ["git", "init", "-q", str(work)],
            ["git", "-C", str(work), "add", "-A"],
            ["git", "-C", str(work), *who, "commit", "-qm", "all"],
            ["git", "clone", "-q", "--bare", str(work), str(bare)],
            ["git", "-C", str(bare), "update-server-info"],
        ):
            subprocess.run(command, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
        return f"{self.address}/{bare.name}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "served").mkdir()
    made = Served(tmp_path / "served")
    yield made
    made.server.shutdown()
    made.server.server_close()
