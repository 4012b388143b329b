"""A step log of which a piece is torn, empty, absent or changed: the state is given all the same, and what is missing is said."""

import json
import re
from dataclasses import replace

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core.claim import Rank
from supervisor.engine import catalogue, checkpoints, retaining
from supervisor.stores.folder import FolderStore
from tests.faults.world import RUN, before

KINDS = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "cut at the end of a row": lambda path: path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:2]) + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(200)),
    "absent": lambda path: path.unlink(),
    "a digit is another": lambda path: path.write_bytes(re.sub(rb"(\d)}", rb"9}", path.read_bytes(), count=1)),
    "another piece's content": lambda path: path.write_bytes(_other(path).read_bytes()),
}


def _other(path):
    return next(each for each in sorted(path.parent.glob("log-*")) if each != path)


@pytest.fixture
def long(tmp_path):
    """Two machines made six checkpoints, of which retention has left the newest two: of the others nothing but the log is left."""
    world = before(tmp_path / "world", (1, 40))
    turn = world.turn("second")
    turn.begin()
    for _ in range(4):
        turn.publish(turn.stage())
    turn.storing.retain()
    assert len(checkpoints.find(world.store(), RUN)) == 2
    world.rank = turn.storing.rank
    return world


def pieces(world, rank=None):
    """Return the pieces of the log, oldest first, of one session or of all."""
    return sorted((world.root / "store" / RUN.name).glob(f"{rank or 'e*'}/log-*.jsonl"))


def steps_of(path):
    first, end = re.fullmatch(r"log-\d+-(\d+)-(\d+)\.jsonl", path.name).groups()
    return int(first), int(end)


@pytest.mark.parametrize("harm", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("which", [0, 2, -1], ids=["the first", "one in the middle", "the newest"])
def test_any_damage_of_any_piece_is_said_with_the_steps_it_has(long, harm, which):
    path = pieces(long)[which]
    first, end = steps_of(path)
    harm(path)
    found = catalogue.step_log(long.store(), RUN)
    assert [(gap.from_step, gap.to_step) for gap in found.gaps] == [(first, end)]
    newest = max(checkpoints.find(long.store(), RUN), key=lambda each: each.id).id.step
    assert [row["step"] for row in found.rows] == [step for step in range(newest) if not first <= step < end]


def test_a_log_that_is_whole_has_no_gaps(long):
    found = catalogue.step_log(long.store(), RUN)
    assert not found.gaps
    assert [row["step"] for row in found.rows] == list(range(len(found.rows)))


def test_a_piece_that_nobody_published_and_was_written_anew_does_not_matter(long):
    newest = pieces(long)[-1]
    first, end = steps_of(newest)
    number = int(newest.name.split("-")[1])
    newest.rename(newest.with_name(f"log-{number + 1:06d}-{first:09d}-{end:09d}.jsonl"))
    assert [(gap.from_step, gap.to_step) for gap in catalogue.step_log(long.store(), RUN).gaps] == []


def test_the_digests_are_carried_on_by_the_next_machine_and_by_one_that_adopts_a_staged_checkpoint(long):
    dead = long.turn("third")
    dead.begin()
    dead.publish(dead.stage())
    dead.stage()
    last = long.turn("third")
    ready = last.begin()
    assert ready.adopted
    last.publish(last.stage())
    newest = checkpoints.naming_the_log(long.store(), RUN)[0]
    assert sorted(newest.pieces) == sorted({path.parent.name for path in pieces(long)})
    assert sum(len(text.split()) for text in newest.pieces.values()) == len(pieces(long))


def test_a_session_that_begins_at_step_0_carries_no_digest_of_others(long):
    afresh = long.turn("third")
    afresh.begin(afresh=True)
    afresh.publish(afresh.stage())
    assert list(checkpoints.naming_the_log(long.store(), RUN)[0].pieces) == [str(afresh.storing.rank)]


def test_a_session_whose_folder_has_no_piece_any_more_is_missed(long):
    first = pieces(long)[0].parent
    spans = [steps_of(path) for path in first.glob("log-*")]
    for path in first.glob("log-*"):
        path.unlink()
    found = catalogue.step_log(long.store(), RUN)
    assert sorted((gap.from_step, gap.to_step) for gap in found.gaps) == sorted(spans)


def old(left, steps):
    """Publish checkpoints as versions did that named one piece in each manifest."""
    rank = left.session(1, options={"keep_last": 2})
    ids = [left.checkpoint(rank, step, f"weights {step}".encode()) for step in steps]
    for id_ in ids:
        [path] = left.file(id_, "x").parent.glob("manifest-*.json")
        body = cp.manifest_body(replace(cp.parse_manifest(path.name, path.read_bytes()), pieces={}))
        assert b"pieces" not in body
        path.unlink()
        (path.parent / cp.manifest_name(id_.seq, body)).write_bytes(body)
    left.end(rank, "stopped", 143)
    return rank, ids


def log_of(left, rank, number):
    [path] = (left.root / "runs/plates" / str(rank)).glob(f"log-{number:06d}-*")
    return path


@pytest.mark.parametrize("harm", ["torn", "empty", "absent"])
@pytest.mark.parametrize("named", [True, False], ids=["a manifest names it", "retention removed its manifest"])
def test_every_verb_says_it_and_export_gives_the_state(said, left, root, harm, named):
    rank, ids = old(left, (10, 20, 30, 40))
    if not named:
        retaining.retain(
            left.store, left.run, retaining.retention.Policy(2), retaining.Knowledge(durable=set(ids)), Rank(2, "b")
        )
    path = log_of(left, rank, 2)
    KINDS[harm](path)
    words = "the rows of steps 10 to 19 are missing"
    code, told = said("checkpoints", "export", "latest", "out")
    assert code == 0
    assert words in told
    assert (root / "out/state.json").read_bytes() == b"weights 40"
    rows = [json.loads(line)["step"] for line in (root / "out/steps.jsonl").read_text().splitlines()]
    assert rows == [*range(10), *range(20, 40)]
    code, told = said("logs", "--steps", "--json")
    assert code == 0
    assert [json.loads(line)["step"] for line in told.splitlines() if line.startswith("{")] == rows
    assert words in told
    code, told = said("checkpoints", "verify")
    assert code == 1
    assert words in told
    assert ("3 verified, 1 damaged" if named else "2 verified") in told


def several(left, *spans):
    """Let one session after the other leave a piece with a row for each step, as versions did that told of none of them."""
    for epoch, (first, end) in enumerate(spans, 1):
        rank = left.session(epoch)
        body = b"".join(json.dumps({"step": step}).encode() + b"\n" for step in range(first, end))
        left.store.create(f"{left.run.session(rank)}/log-000001-{first:09d}-{end:09d}.jsonl", body)


def test_an_old_log_of_many_sessions_has_no_gaps(left):
    several(left, (0, 10), (10, 20), (20, 30), (25, 40))
    found = catalogue.step_log(left.store, left.run)
    assert not found.gaps
    assert [row["step"] for row in found.rows] == list(range(40))


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_an_old_log_without_one_of_its_pieces_has_the_gap_that_shows(left, gone):
    several(left, (0, 10), (10, 20), (20, 30), (30, 40))
    log_of(left, Rank(gone, f"{gone:08x}"), 1).unlink()
    [gap] = catalogue.step_log(left.store, left.run).gaps
    assert (gap.from_step, gap.to_step) == (10 * gone - 10, 10 * gone)
    assert (
        str(gap)
        == f"the rows of steps {10 * gone - 10} to {10 * gone - 1} are missing: no piece of the step log covers them"
    )


def test_a_log_with_rows_at_some_steps_only_is_not_said_to_have_gaps(left):
    """Whoever logs at every tenth step leaves pieces that do not touch, and nothing is missing."""
    rank = left.session(1)
    store = FolderStore(left.store.root)
    for number, step in ((1, 10), (2, 40)):
        body = json.dumps({"step": step - 5, "loss": 1.0}).encode() + b"\n"
        store.create(f"{left.run.session(rank)}/log-{number:06d}-{step - 10:09d}-{step:09d}.jsonl", body)
    assert not catalogue.step_log(left.store, left.run).gaps


def test_a_manifest_without_what_is_told_of_the_log_keeps_its_bytes():
    manifest = cp.Manifest(cp.CheckpointId(1, 2, "a", 1), ())
    assert b"pieces" not in cp.manifest_body(manifest)
