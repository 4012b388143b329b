"""What a store says of packages: it proposes versions of what the script asks for, and installs nothing by itself (A5)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.core.environment import Located, Locked, Record
from supervisor.core.errors import SetupError
from supervisor.environments import installers, prepare, solve
from supervisor.environments.files import digest
from tests.wheelhouse import offline_environ, write_interpreter, write_wheel

if TYPE_CHECKING:
    from supervisor.environments.prepare import Prepared

pytestmark = pytest.mark.slow
EVIL = "import os\nstolen = True\n"


class Victim:
    """A fresh machine: an index, a store's folder of wheels, and a script that asks for "tinydep"."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installers, "find_uv", lambda *_: None)
        self.index, self.kept = folder / "index", folder / "kept"
        write_wheel(self.index, "tinydep", "1.0")
        self.kept.mkdir()
        self.script = folder / "job.py"
        self.script.write_text("# /// script\n# dependencies = ['tinydep']\n# ///\n")
        self.python = write_interpreter(folder / "python")
        self.environ = offline_environ(folder, self.index)
        self.said: list[str] = []
        self._folder = folder
        self.record = Record.from_bytes(self.prepare("maker").record)

    def prepare(self, root: str, record: Record | None = None, *, trusted: bool = False) -> Prepared:
        return prepare.prepare(
            self.script, python=str(self.python), root=self._folder / root, recorded=record and record.to_bytes(),
            wheels=self.kept, say=self.said.append, environ=self.environ, trusted=trusted,
        )  # fmt: skip

    def offline(self) -> None:
        for wheel in self.index.iterdir():
            wheel.unlink()

    def forged(self, *packages: tuple[str, str]) -> Record:
        """A record that names these packages, with the hashes of wheels that lie in the store beside it."""
        wheels = [write_wheel(self.kept, name, version, body=EVIL) for name, version in packages]
        locked = [
            Locked(name, version, (digest(file),)) for (name, version), file in zip(packages, wheels, strict=True)
        ]
        return replace(self.record, difference=tuple(locked))


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Victim:
    return Victim(tmp_path, monkeypatch)


def files_of(prepared: Prepared) -> str:
    return "".join(file.read_text() for file in Path(prepared.python).parent.parent.rglob("*.py"))


def test_a_forged_wheel_of_what_the_script_asks_for_is_not_installed(victim: Victim):
    prepared = victim.prepare("fresh", victim.forged(("tinydep", "1.0")))
    assert prepared.installed == ("tinydep 1.0",)
    assert "stolen" not in files_of(prepared)
    assert any("has not signed" in words and "tinydep differs from it" in words for words in victim.said)


def test_a_package_that_the_script_does_not_lead_to_is_not_installed(victim: Victim):
    prepared = victim.prepare("fresh", victim.forged(("never-asked-for", "6.6.6"), ("tinydep", "1.0")))
    assert prepared.installed == ("tinydep 1.0",)
    assert "stolen" not in files_of(prepared)


def test_a_kept_wheel_is_used_where_the_index_has_the_same_file(victim: Victim):
    write_wheel(victim.kept, "tinydep", "1.0")
    victim.said.clear()
    assert victim.prepare("fresh", victim.record).installed == ("tinydep 1.0",)
    assert [words for words in victim.said if "has not signed" in words] == [
        (
            "this user's key has not signed the store's record of packages: versions and hashes are those that the package "
            "index has (SUPERVISOR_KEY carries the key)"
        )
    ]


def test_without_an_index_kept_wheels_are_installed_only_where_their_record_is_trusted(victim: Victim):
    write_wheel(victim.kept, "tinydep", "1.0")
    victim.offline()
    with pytest.raises(SetupError, match="not signed by this user's key") as refused:
        victim.prepare("fresh", victim.record)
    assert "SUPERVISOR_KEY" in refused.value.hint
    assert "--trust-store" in refused.value.hint
    assert victim.prepare("fresh", victim.record, trusted=True).installed == ("tinydep 1.0",)


def test_a_commit_of_a_repository_is_not_the_stores_to_choose(monkeypatch: pytest.MonkeyPatch, victim: Victim):
    """A commit of anybody's fork is had from the repository's own address."""
    victim.script.write_text(
        "# /// script\n# dependencies = ['tinydep @ git+https://127.0.0.1:9/tinydep.git']\n# ///\n"
    )
    record = replace(
        victim.record,
        wanted=("tinydep @ git+https://127.0.0.1:9/tinydep.git",),
        difference=(),
        direct=(Located("tinydep", "1.0", "deadbeef"),),
    )
    lines: list[str] = []

    def asked(*_: object, lines: tuple[str, ...] = (), into: list[str] = lines, **__: object) -> tuple[Locked, ...]:
        into.extend(lines)
        raise SetupError("enough", "")

    monkeypatch.setattr(solve, "difference", asked)
    with pytest.raises(SetupError, match="enough"):
        victim.prepare("fresh", record)
    assert lines == ["tinydep @ git+https://127.0.0.1:9/tinydep.git"]
