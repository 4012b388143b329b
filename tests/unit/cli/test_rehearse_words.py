"""The verdict of a rehearsal: what differs, from which step on, and what that most likely means."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from supervisor.cli import rehearse
from supervisor.engine.comparison import Comparison, first_row
from supervisor.trainer import compare, typed_json
from supervisor.trainer.folder import open_folder
from supervisor.trainer.frameworks.plain import READ_AHEAD
from supervisor.views.rehearsal import lines, unprotected

SAME = {"steps": (90, 90), "attached": ("model", "sampler"), "generators": ("python",), "differ": (), "row": None, "columns": (),
        "measured": (), "ahead": (), "resumed": (30, 60), "rows": 90}  # fmt: skip


def words(**changes):
    return "\n".join(lines(Comparison(**{**SAME, **changes})))


def test_two_equal_runs_are_bit_exact():
    assert words().startswith("resume is bit-exact")
    assert "went on from: 30, 60" in words()


def test_each_part_has_its_own_verdict():
    told = words(differ=("sampler.position",), row=30, columns=("loss",)).splitlines()
    first = next(number for number, line in enumerate(told) if line.startswith("  weights"))
    assert [" ".join(line.split()) for line in told[first : first + 6]] == [
        "weights same model",
        "optimizer none",
        "random numbers same python",
        "data order differs sampler.position",
        "callbacks none",
        "step log differs from step 30: loss",
    ]


def test_a_lost_position_is_named_first():
    text = words(differ=("model.weight", "sampler.position"), row=30, columns=("loss",))
    assert text.startswith(
        "resume differs from step 30: data order (sampler.position), weights (model.weight), logged loss"
    )
    assert "exactly where the run was resumed" in text
    assert "load_state_dict() does not bring back" in text


def test_a_sampler_that_is_not_attached_is_suspected():
    assert "no data order is attached" in words(
        attached=("model",), differ=("model.weight",), row=31, columns=("loss",)
    )


def test_a_script_that_never_does_the_same_twice_is_told_apart_from_a_bad_resume():
    text = words(differ=("model.weight",), row=3, columns=("loss",))
    assert "differs before anything was killed" in text
    assert "seed its random numbers" in text


def test_a_state_that_differs_in_silence_is_said():
    assert words(differ=("rng.torch",)).startswith("resume differs at step 90: random numbers (rng.torch)")


def test_measured_times_are_not_compared_but_named():
    one = {0: {"step": 0, "loss": 1.0, "step_s": 0.1}, 1: {"step": 1, "loss": 0.5, "step_s": 0.2}}
    other = {0: {"step": 0, "loss": 1.0, "step_s": 0.3}, 1: {"step": 1, "loss": 0.5, "step_s": 0.2}}
    assert first_row(one, other) == (None, (), ("step_s",))


def test_the_learning_rate_is_no_measured_time():
    assert first_row({0: {"lr": 1.0}}, {0: {"lr": 2.0}}) == (0, ("lr",), ())


def test_a_missing_row_is_a_difference():
    assert first_row({0: {"loss": 1.0}}, {})[0] == 0


def folder(path: Path, objects: dict, rng: dict, tensors: bytes = b"") -> Path:
    import hashlib

    path.mkdir()
    state = {"format": "training-supervisor-checkpoint", "version": 1, "objects": objects, "split": {}}
    bodies = {"state.json": json.dumps(state).encode(), "rng.json": json.dumps(rng).encode(), "log.jsonl": b""}
    bodies |= {"state-00000.safetensors": tensors} if tensors else {}
    for name, body in bodies.items():
        (path / name).write_bytes(body)
    files = [
        {"name": n, "bytes": len(b), "digest": f"sha256:{hashlib.sha256(b).hexdigest()}"} for n, b in bodies.items()
    ]
    said = {"format": "training-supervisor-checkpoint", "version": 1, "step": 9, "files": files}
    (path / "checkpoint.json").write_text(json.dumps(said))
    return path


@pytest.mark.parametrize(
    ("other", "rng", "paths"),
    [
        ({"sampler": {"position": 7}}, 1, []),
        ({"sampler": {"position": 0}}, 1, ["sampler.position"]),
        ({"sampler": {"position": 7.0}}, 1, ["sampler.position"]),
        ({"sampler": {}}, 1, ["sampler.position"]),
        ({"sampler": {"position": 7}}, 2, ["rng.python"]),
    ],
)
def test_two_checkpoints_are_compared_by_their_bytes(tmp_path, capsys, other, rng, paths):
    one = folder(tmp_path / "one", {"sampler": {"position": 7}}, {"generators": {"python": 1}, "bytes": {}})
    two = folder(tmp_path / "two", other, {"generators": {"python": rng}, "bytes": {}})
    assert compare.main([str(one), str(two)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"step": [9, 9], "attached": ["sampler"], "generators": ["python"], "differ": paths, "ahead": []}


@pytest.mark.parametrize(("kind", "differ", "ahead"), [(READ_AHEAD, [], ["data.1"]), ("plain.bytes", ["data.1"], [])])
def test_what_was_read_ahead_is_told_and_not_compared(tmp_path, capsys, kind, differ, ahead):
    tensors = (safetensors.numpy.save({"data.1": np.full(size, 7, np.uint8)}) for size in (8, 16))
    objects = {"data": [3, {typed_json.TAG: kind, "leaf": "data.1"}]}
    found = [
        folder(tmp_path / str(n), objects, {"generators": {}, "bytes": {}}, each) for n, each in enumerate(tensors)
    ]
    assert compare.main([str(each) for each in found]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["differ"], told["ahead"]) == (differ, ahead)
    left, right = (compare.values(open_folder(each)) for each in found)
    assert (left == right) is (not differ)
    assert left.keys() == {"data", "data.0", *differ}


@pytest.mark.parametrize(
    "other",
    [
        {"a": {typed_json.TAG: "tuple", "items": []}, "b": 1},
        {"a": {}, "b": 1},
        {"b": 1, "a": []},
        {"a": [], "b": 1.0},
        {"a": [], "b": 1, "c": {}},
        {typed_json.TAG: "OrderedDict", "items": [["a", []], ["b", 1]], "metadata": {"version": 1}},
    ],
)
def test_values_tell_containers_apart_also_where_they_hold_the_same(tmp_path, other):
    kept = ({"a": [], "b": 1}, other, {"a": [], "b": 1})
    made = (folder(tmp_path / str(n), {"data": each}, {"generators": {}, "bytes": {}}) for n, each in enumerate(kept))
    one, two, again = (compare.values(open_folder(each)) for each in made)
    assert one == again
    assert one != two


def test_what_reads_ahead_is_named():
    assert "because it reads ahead: data.1" in words(ahead=("data.1",))


def test_where_nothing_is_logged_nothing_is_said_of_the_log():
    told = words(rows=0)
    assert "step log                none" in told
    assert told.startswith("resume is bit-exact: its state equals that of the run")
    assert "every logged value" not in words(rows=0, differ=("model.weight",))


def test_a_script_that_begins_again_fails_in_words_of_its_own():
    told = words(attached=("files",), files=2, rows=0, anew=(400, 800), resumed=(400, 800))
    assert told.startswith(
        "resume fails: the script begins at its first step again; put back were the files of: 400, 800"
    )
    assert "--resume-args" in told
    assert "bit-exact" not in told


def test_what_was_saved_outside_the_copy_is_named():
    assert unprotected(()) == []
    assert unprotected(("/data/out/ckpt.pt",)) == ["  saved outside the copy, into your own folders: /data/out/ckpt.pt"]


def test_the_folder_of_a_rehearsal_goes_although_a_dying_process_still_writes_there(tmp_path, monkeypatch):
    remove, calls = shutil.rmtree, []

    def rmtree(folder, **_):
        calls.append(folder)
        if len(calls) > 2:  # a last file comes while it is removed for the first and the second time
            remove(folder)

    with rehearse._made_for_it(tmp_path / "runs") as folder:
        (folder / "late.jsonl").write_text("{}")
        monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert not folder.exists()
