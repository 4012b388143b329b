"""What home sends is unpacked by every Python from 3.11.0 on, and never outside the machine's folder."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from supervisor.fleet import consignment
from supervisor.fleet.bundle import LAUNCH

if TYPE_CHECKING:
    from pathlib import Path

OLD = "import tarfile; del tarfile.data_filter; old = tarfile.TarFile.extractall\n"
REFUSING = "tarfile.TarFile.extractall = lambda self, path, members: old(self, path, members)\n"  # as in 3.11.2
AGENT = "import sys; print('agent of', sys.argv[2])"


def archive(folder: Path, **contents: str) -> None:
    with tarfile.open(folder / consignment.CODE, "w:gz") as code:
        for name, text in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            code.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo(f"{consignment.PROJECT}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        code.addfile(link)


@pytest.mark.parametrize("old", [False, True], ids=["this Python", "Python 3.11.2"])
def test_a_machine_starts_its_agent_from_the_code_it_was_sent(tmp_path: Path, *, old: bool) -> None:
    archive(
        tmp_path,
        **{
            "package/supervisor/__init__.py": "",
            "package/supervisor/__main__.py": AGENT,
            "package/../../escaped.py": "0",
        },
    )
    (tmp_path / "launch.py").write_text((OLD + REFUSING if old else "") + LAUNCH)
    told = subprocess.run(
        [sys.executable, tmp_path / "launch.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert told.stdout.strip() == f"agent of {tmp_path}", told.stderr
    assert not (tmp_path.parent / "escaped.py").exists()


@pytest.mark.parametrize("old", [False, True], ids=["this Python", "Python 3.11.2"])
def test_a_project_is_unpacked_without_what_leads_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, old: bool
) -> None:
    if old:
        extract = tarfile.TarFile.extractall

        def refusing(self: tarfile.TarFile, path: Path, members: list[tarfile.TarInfo]) -> None:
            extract(self, path, members)

        monkeypatch.delattr(tarfile, "data_filter")
        monkeypatch.setattr(tarfile.TarFile, "extractall", refusing)
    folder = tmp_path / "machine"
    folder.mkdir()
    archive(folder, **{"project/train.py": "print(1)", "project/../../escaped.py": "0"})
    found = consignment.unpack(folder)
    assert [path.name for path in found.iterdir()] == ["train.py"]
    assert not (tmp_path / "escaped.py").exists()
