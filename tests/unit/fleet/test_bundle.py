"""All machines of a launch are sent the same code, and what was edited since is named."""

from __future__ import annotations

import tarfile

import pytest

from supervisor.fleet.bundle import Shipment
from supervisor.fleet.consignment import CODE, KEY, SECRETS

MAX = 32 * 1024 * 1024


@pytest.fixture
def script(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("print(1)\n")
    (project / "model.py").write_text("x = 1\n")
    return project / "train.py"


def sent(folder, name):
    with tarfile.open(folder / CODE) as code:
        return code.extractfile(f"project/{name}").read().decode()


def test_an_edited_project_is_noticed_and_not_sent_before_the_next_launch(script, tmp_path):
    shipment, folder = Shipment("toy", script, secrets={"KEY": "v"}, key="run-00"), tmp_path / "way"
    assert shipment.pack(folder, bytes_max=MAX) == []
    assert shipment.changed(folder) == []
    script.write_text("print(2)\n")
    (script.parent / "model.py").unlink()
    (script.parent / "new.py").write_text("")
    assert shipment.changed(folder) == ["model.py", "new.py", "train.py"]
    files = dict(map(reversed, shipment.files(folder)))
    assert files[SECRETS].read_text() == "KEY=v\n"
    assert files[KEY].read_text() == "run-00\n"
    assert {files[name].stat().st_mode & 0o777 for name in (SECRETS, KEY)} == {0o600}
    assert sent(folder, "train.py") == "print(1)\n", "the next machine of this launch gets what the first one got"
    again = Shipment("toy", script)
    assert again.pack(folder, bytes_max=MAX) == ["model.py", "new.py", "train.py"]
    assert sent(folder, "train.py") == "print(2)\n"
    assert again.changed(folder) == []
