"""What is typed wrong is answered with the line that was meant, which runs when it is pasted."""

from __future__ import annotations

import shlex

import pytest

HERE = "python3 -m supervisor "


@pytest.fixture
def script(root):
    (root / "my train.py").write_text("print(1)\n")
    (root / "pkg").mkdir()
    (root / "pkg/train.py").write_text("print(1)\n")
    return "my train.py"


def two_lines(said, line: str) -> tuple[str, str]:
    code, words = said(*shlex.split(line))
    assert code == 2, words
    what, hint = words.splitlines()
    return what.removeprefix("error: "), hint.removeprefix("  try: ")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("strat 'my train.py' --name x", "start 'my train.py' --name x"),
        ("chekpoints x list", "checkpoints x list"),
        ("staus", "status"),
        ("start 'my train.py' --save-evry 10m", "start 'my train.py' --save-every 10m"),
        ("start 'my train.py' --keep-lst=4 -- --lr 1", "start 'my train.py' --keep-last=4 -- --lr 1"),
        ("status --jsn", "status --json"),
        ("checkpoints exprt latest DIR", "checkpoints export latest DIR"),
        ("checkpoints plates verfy", "checkpoints plates verify"),
        ("launch 'my train.py' --on local --max-machine 3", "launch 'my train.py' --on local --max-machines 3"),
    ],
)
def test_the_nearest_word_is_proposed_with_its_line(said, left, script, line, meant):
    what, hint = two_lines(said, line)
    assert "did you mean" in what
    assert hint == HERE + meant


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("start 'my train.py' --epochs 2", "start 'my train.py' -- --epochs 2"),
        ("start 'my train.py' -e 2 --lr=3 --name x", "start 'my train.py' --name x -- -e 2 --lr=3"),
        ("start --epochs 2 'my train.py' --store s", "start 'my train.py' --store s -- --epochs 2"),
        ("start 'my train.py' --epochs 2 -- --lr 1", "start 'my train.py' -- --epochs 2 --lr 1"),
        ("resume --epochs 2", "resume -- --epochs 2"),
        ("rehearse 'my train.py' --epochs 2", "rehearse 'my train.py' -- --epochs 2"),
        ("launch 'my train.py' --on local --epochs 2", "launch 'my train.py' --on local -- --epochs 2"),
        ("start -m pkg.train --epochs 2", "start -m pkg.train -- --epochs 2"),
    ],
)
def test_the_scripts_own_arguments_go_after_the_dashes(said, left, script, line, meant):
    what, hint = two_lines(said, line)
    assert "the script's own arguments go after --" in what
    assert hint == HERE + meant


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("torchrun 'my train.py' --epochs 2", "'my train.py' -- --epochs 2"),
        ("torchrun --nproc_per_node 1 --standalone 'my train.py'", "'my train.py'"),
        ("accelerate launch --num_processes=1 'my train.py' --epochs 2", "'my train.py' -- --epochs 2"),
        ("deepspeed --num_gpus 1 'my train.py' -- --epochs 2", "'my train.py' -- --epochs 2"),
        ("-m torch.distributed.run --nproc-per-node 1 'my train.py' --epochs 2", "'my train.py' -- --epochs 2"),
        ("python -m torch.distributed.launch 'my train.py' --epochs 2", "'my train.py' -- --epochs 2"),
        ("python3.11 -u 'my train.py'", "'my train.py'"),
        ("torchrun -m pkg.train --epochs 2", "-m pkg.train -- --epochs 2"),
        ("--name x uv run 'my train.py' --lr 1", "'my train.py' --name x -- --lr 1"),
    ],
)
def test_another_launchers_line_is_answered_with_ours(said, script, line, meant):
    what, hint = two_lines(said, f"start {line}")
    assert "is not needed: the supervisor runs the script itself, as one process" in what
    assert hint == f"{HERE}start {meant}"


def test_a_script_without_a_verb_is_to_be_started(said, script):
    assert two_lines(said, "'my train.py' --name x --lr 1")[1] == HERE + "start 'my train.py' --name x -- --lr 1"


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("start 'my train.py' --resume nevr", "never"),
        ("start 'my train.py' --on-nan rolback", "rollback"),
        ("launch 'my train.py' --on locl", "local"),
        ("status plaets", "plates"),
        ("checkpoints prun", "prune"),
    ],
)
def test_the_nearest_value_is_proposed(said, left, script, line, near):
    assert f"did you mean {near}?" in two_lines(said, line)[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("start -m pkg.nothing", "there is no module pkg.nothing"),
        ("start -m pkg", "there is no module pkg"),
        ("start -m pkg/train.py", "this is no module's name"),
        ("start", "SCRIPT is missing"),
        ("start -m pkg.train 'my train.py'", "one of them runs"),
        ("launch -m pkg.train --on local", "runs no module by -m"),
        ("rehearse -m pkg.train", "runs no module by -m"),
    ],
)
def test_what_no_module_can_be_is_two_lines(said, script, line, words):
    assert words in two_lines(said, line)[0]
