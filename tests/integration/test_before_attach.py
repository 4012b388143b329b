"""What a script draws and orders before attach() is the same on every machine of its run."""

from __future__ import annotations

import json

import pytest

from supervisor.core.messages import Finished, Note, Staged
from supervisor.engine.launcher import hash_seed
from tests.integration.test_attach import Played, script

pytestmark = pytest.mark.slow

HEAD = "import random, sys, supervisor\nfrom supervisor.trainer.order import Order\n"
TAIL = (
    "run = supervisor.attach(data=Order(9))\n"
    "for step in run.steps(int(sys.argv[1])):\n    run.log(drawn=random.random())\n"
)


def lives(tmp_path, drawn, **environ):
    """Run the script on two machines, the second from the first one's checkpoint; return both."""
    path = script(tmp_path, HEAD + drawn + TAIL)
    first = Played(tmp_path, path, "3", **environ)
    assert first.end() == 0, first.output
    (staged,) = first.all_of(Staged)
    second = Played(tmp_path, path, "5", checkpoint=first.staging / staged.folder, **environ)
    assert second.end() == 0, second.output
    assert second.all_of(Finished) == [Finished(5)]
    return first, second


def warnings(played):
    return [note.text for note in played.all_of(Note) if note.level == "warning"]


def test_a_split_without_a_seed_is_the_same_on_the_next_machine(tmp_path):
    first, second = lives(tmp_path, "print(random.sample(range(100), 20))\n")
    assert first.output == second.output
    assert warnings(second) == []


def test_another_run_draws_another_one(tmp_path):
    outputs = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        played = Played(tmp_path / name, script(tmp_path, HEAD + "print(random.getrandbits(64))\n" + TAIL), "1")
        assert played.end() == 0
        outputs.add(played.output)
    assert len(outputs) == 2


def test_a_script_that_seeds_itself_draws_as_it_does_alone(tmp_path):
    first, second = lives(tmp_path, "random.seed(5)\nprint(random.random())\n")
    import random

    assert first.output == second.output == f"{random.Random(5).random()}\n"
    assert warnings(second) == []


def test_a_script_that_draws_otherwise_before_attach_is_told(tmp_path):
    _, second = lives(tmp_path, "import time\nrandom.seed(time.monotonic_ns())\nrandom.random()\n")
    (words,) = warnings(second)
    assert words.startswith("random numbers were drawn before attach() otherwise than when the run began (python)")


@pytest.mark.torch
def test_splits_of_torch_and_numpy_are_the_same_too(tmp_path):
    pytest.importorskip("torch")
    drawn = "import numpy, torch\nprint(torch.randperm(50).tolist(), numpy.random.permutation(50).tolist())\n"
    first, second = lives(tmp_path, drawn)
    assert first.output == second.output
    assert warnings(second) == []


def test_another_hash_seed_is_told_and_the_supervisors_follows_from_the_run(tmp_path):
    path = script(tmp_path, HEAD + "print(list({'a', 'b', 'c', 'd', 'e', 'f'}))\n" + TAIL)
    seeds = [hash_seed("run-1"), hash_seed("run-1"), hash_seed("run-2")]
    assert seeds[0] == seeds[1] != seeds[2]
    first = Played(tmp_path, path, "2", PYTHONHASHSEED=seeds[0])
    assert first.end() == 0
    folder = first.staging / first.all_of(Staged)[0].folder
    assert json.loads((folder / "checkpoint.json").read_text())["made_by"]["PYTHONHASHSEED"] == seeds[0]
    same = Played(tmp_path, path, "2", checkpoint=folder, PYTHONHASHSEED=seeds[1])
    assert same.end() == 0
    assert (same.output, warnings(same)) == (first.output, [])
    other = Played(tmp_path, path, "3", checkpoint=folder, PYTHONHASHSEED=seeds[2])
    assert other.end() == 0
    (words,) = warnings(other)
    assert words.startswith(f"PYTHONHASHSEED was {seeds[0]} and is {seeds[2]}")


def test_a_script_asks_for_the_step_before_it_builds(tmp_path):
    first, second = lives(tmp_path, "print('from', supervisor.resume_step())\n")
    assert (first.output, second.output) == ("from 0\n", "from 3\n")
