"""Checkpoints of which each file is absent, empty, half or whole, or damaged in any way, by the ten thousand, on paper.

I1, I3, I5, I6, I7: the newest whole one is taken, byte for byte; what is passed over is said; step 0 follows no sign of work.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from supervisor.core.ports import Traits
from supervisor.engine import checkpoints
from tests.faults.paper import Judge, harm
from tests.faults.stores import OnADrive, silent
from tests.faults.sweep import ALL
from tests.faults.world import World, before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STATES = 200_000 if ALL else 20_000
DAMAGES = 50_000 if ALL else 5_000
FOLDER, DRIVE = Traits(), Traits(evidence="client", confirm_every_s=1.0, mounted=True)
PARTS = ("absent", "empty", "half", "whole")
NEW = 3


@pytest.fixture
def judge(quick) -> Judge:
    """A run whose first machine left two DURABLE checkpoints, and whose second could prove none of its three."""
    return Judge(unproved(before(quick / "start", made=OnADrive)), DRIVE)


@pytest.fixture
def first(quick) -> Judge:
    """A run whose first and only machine could prove none of its three checkpoints."""
    world = World(quick / "start", (1, 30), made=OnADrive)
    world.root.mkdir()
    (world.root / "script.py").write_text("pass\n")
    return Judge(unproved(world), DRIVE)


def unproved(world: World) -> World:
    turn = world.turn("second", silent(world.where))
    turn.begin()
    for _ in range(NEW):
        turn.publish(turn.stage())
    turn.journal_piece(1)
    return world


def new_files(judge: Judge) -> list[str]:
    """The files that the second machine made, of checkpoints and of records."""
    session = str(checkpoints.rank_of(max(judge.files) and next(iter(judge.files[max(judge.files)])).split("/")[1]))
    return [path for path in judge.whole if path.split("/")[1] == session]


def parts(judge: Judge, states: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """The store with each of these files as it says."""
    files = dict(judge.whole)
    for path, part in states:
        if part == "absent":
            del files[path]
        elif part != "whole":
            files[path] = b"" if part == "empty" else files[path][: len(files[path]) // 2]
    return files


@pytest.mark.slow
def test_each_new_file_of_three_checkpoints_absent_empty_half_or_whole(judge):
    assert _all_judged(judge, _drawn(new_files(judge), STATES, random.Random(1))) == STATES


@pytest.mark.slow
def test_each_file_of_the_newest_checkpoint_in_every_combination(judge):
    newest = judge.files[max(judge.files)]
    every = list(itertools.product(PARTS, repeat=len(newest)))
    chosen = every if ALL else random.Random(2).sample(every, min(len(every), 1500))
    _all_judged(judge, (zip(newest, state, strict=True) for state in chosen))


@pytest.mark.slow
def test_each_file_of_a_first_run_absent_empty_half_or_whole(first):
    _all_judged(first, _drawn(list(first.whole), STATES // 10, random.Random(3)))


@pytest.mark.slow
@pytest.mark.parametrize("traits", [FOLDER, DRIVE], ids=["in a folder", "on a drive"])
def test_random_damage_never_hides_the_newest_whole_checkpoint_nor_is_loaded(judge, traits):
    judge.traits, chance = traits, random.Random(4)
    among = [path for id_ in sorted(judge.files)[-NEW:] for path in judge.files[id_]]
    for _ in range(DAMAGES // 2):
        files = dict(judge.whole)
        harm(files, chance, among, list(judge.whole))
        judge.judge(files)


@pytest.mark.slow
def test_damage_to_all_there_is_of_a_first_run_never_begins_it_anew_unless_nothing_was_ever_published(first):
    chance, paths = random.Random(5), list(first.whole)
    for _ in range(DAMAGES // 5):
        files = dict(first.whole)
        for _ in range(3):
            harm(files, chance, paths, paths)
        first.judge(files)


def _drawn(paths: list[str], number: int, chance: random.Random) -> Iterator[Iterable[tuple[str, str]]]:
    for _ in range(number):
        whole = chance.choice((1, 3, 9, 27))
        states = chance.choices(PARTS, (1, 1, 1, whole), k=len(paths))
        yield zip(paths, states, strict=True)


def _all_judged(judge: Judge, every: Iterable[Iterable[tuple[str, str]]]) -> int:
    done = 0
    for states in every:
        judge.judge(parts(judge, states))
        done += 1
    return done
