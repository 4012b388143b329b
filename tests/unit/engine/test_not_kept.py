"""What is not kept is said, with the option that keeps it; a folder of everybody is never proposed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from supervisor.engine.files.not_kept import NOTHING_SAVED_S, NothingYet, Outside


class Said(list[str]):
    """Keeps the words."""

    def __call__(self, _level: str, words: str) -> None:
        self.append(words)


class Left(list[str]):
    """Stands for what is new."""

    def left(self) -> list[str]:
        return self


@pytest.fixture
def temporary() -> Path:
    """Return a file in the system's own temporary folder, gone after the test."""
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        yield Path(file.name)


def test_what_is_saved_to_the_systems_temporary_folder_may_still_be_moved_in(tmp_path: Path) -> None:
    said = Said()
    outside = Outside(said)
    outside.saved("/tmp/never-there-1.pt", "")
    outside.saved("/tmp/never-there-2.pt", "")
    outside.ended()
    assert said == [], "both were moved in"


def test_what_stays_there_is_said_at_the_end_without_proposing_that_folder(temporary: Path) -> None:
    said = Said()
    outside = Outside(said)
    outside.saved(str(temporary), "")
    assert said == []
    outside.ended()
    assert len(said) == 1
    assert "is not kept" in said[0]
    assert f"--watch {temporary.parent}" not in said[0]
    assert "into one of its own" in said[0]


def test_what_lies_in_a_folder_of_its_own_is_said_at_once_with_that_folder() -> None:
    said = Said()
    outside = Outside(said)
    outside.saved("/home/somebody/out/a.pt", "")
    outside.saved("/home/somebody/out/b.pt", "")
    assert said == [
        "/home/somebody/out/a.pt is saved outside the working folder and is not kept: --watch /home/somebody/out keeps it"
    ]


@pytest.mark.parametrize(
    ("left", "keeps"),
    [
        (["out/a.bin", "out/b.bin"], "--watch out keeps it"),
        (["a.bin"], "have the script write into a folder of its own"),
        ([], "--watch DIR"),
    ],
)
def test_after_two_minutes_without_a_save_it_is_said_once(left: list[str], keeps: str) -> None:
    said = Said()
    nothing = NothingYet(said)
    nothing.begins(100.0)
    nothing.looked(100.0 + NOTHING_SAVED_S - 1.0, Left(left))
    assert said == []
    for _ in range(2):
        nothing.looked(100.0 + NOTHING_SAVED_S, Left(left))
    assert len(said) == 1
    assert keeps in said[0]


def test_at_the_end_the_new_files_are_named_with_the_option() -> None:
    said = Said()
    nothing = NothingYet(said)
    nothing.ended([])
    assert said == []
    nothing.ended(["out/a.xyz", "out/b.xyz", "c", "d", "e"])
    words = "nothing that the script wrote is kept: 'out/a.xyz', 'out/b.xyz', 'c' and 2 more; --watch out keeps it"
    assert said == [words]
