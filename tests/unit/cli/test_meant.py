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


SCRIPT_WITH_OPTIONS = """
import argparse
import shared_options
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
parser.add_argument("--batch-size", type=int)
parser.add_argument("--flag", action="store_true")
"""


@pytest.mark.parametrize(
    ("line", "meant", "words"),
    [
        ("start own.py --stpes 5", "start own.py -- --steps 5", "did you mean the script's --steps?"),
        ("start own.py --steps 5", "start own.py -- --steps 5", "has no option --steps: the script's own arguments"),
        ("start own.py --steps=5", "start own.py -- --steps=5", "the script's own arguments go after --"),
        ("start own.py --step 5", "start own.py -- --steps 5", "did you mean the script's --steps?"),
        ("start own.py --epcohs 2", "start own.py -- --epochs 2", "did you mean the script's --epochs?"),
        ("start own.py --batch_size=8", "start own.py -- --batch-size=8", "did you mean the script's --batch-size?"),
        ("start own.py --falg --name x", "start own.py --name x -- --flag", "did you mean the script's --flag?"),
        (
            "start own.py --save-evry 10m --stpes 5 -- --lr 1",
            "start own.py --save-every 10m -- --steps 5 --lr 1",
            "did you mean --save-every?",
        ),
        ("start own.py --sotre runs", "start own.py --store runs", "did you mean --store?"),
        ("start -m pkg.own --stpes 5", "start -m pkg.own -- --steps 5", "did you mean the script's --steps?"),
        ("start trainers/toy.py --stpes 5", "start trainers/toy.py -- --steps 5", "did you mean the script's --steps?"),
        (
            "launch own.py --on local --stpes 5",
            "launch own.py --on local -- --steps 5",
            "did you mean the script's --steps?",
        ),
        # none of the script's: nothing of ours is put in its place
        ("start 'my train.py' --stpes 5", "start 'my train.py' -- --stpes 5", "the script's own arguments go after --"),
        ("start 'my train.py' --steps 5", "start 'my train.py' -- --steps 5", "the script's own arguments go after --"),
        ("start 'my train.py' --batch 5", "start 'my train.py' -- --batch 5", "the script's own arguments go after --"),
    ],
)
@pytest.mark.usefixtures("left", "script")
def test_an_option_that_the_script_declares_is_preferred_to_ours(said, root, line, meant, words):
    (root / "own.py").write_text(SCRIPT_WITH_OPTIONS)
    (root / "pkg/own.py").write_text(SCRIPT_WITH_OPTIONS)
    (root / "shared_options.py").write_text('def add(parser):\n    parser.add_argument("--epochs", type=int)\n')
    what, hint = two_lines(said, line)
    assert words in what
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
