"""Documents of a store whose hash is right and whose content leads out of the folder, or is of another type: damage, in words."""

import hashlib
import json
import os

import pytest

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.engine import checkpoints
from supervisor.engine.place import RunPlace


@pytest.fixture
def two(left):
    """Two checkpoints of one session that has ended; the newer one is for a test to forge."""
    rank = left.session(1, options={"keep_last": 2})
    left.ids = [left.checkpoint(rank, step, f"weights {step}".encode()) for step in (10, 20)]
    left.journal(rank, *(ev.Durable("", id_, 10, 0.1, "fsync") for id_ in left.ids))
    left.end(rank, "stopped", 143)
    return left


def forge(left, id_, change):
    """Change the manifest of a checkpoint and give it the name that its new bytes have."""
    [old] = left.file(id_, "x").parent.glob("manifest-*.json")
    told = json.loads(old.read_bytes())
    change(told)
    body = json.dumps(told).encode()
    old.unlink()
    (old.parent / cp.manifest_name(id_.seq, body)).write_bytes(body)


def leads_out(left, name):
    """Forge an entry of ours under another name, with the right digest, so that nothing but its name is wrong."""

    def change(told):
        told["files"][0]["name"] = name

    forge(left, left.ids[-1], change)


def everything(root):
    """Return all files below the test's folder with their content."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("up", ["../victim", "../../victim", "../../../victim", "{root}/victim", "local/../victim"])
def test_a_name_that_leads_out_is_damage_and_nothing_is_written_there(said, two, root, up):
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        if not str(folder).startswith(str(root / "runs")):
            (folder / "victim").write_text("mine")
    leads_out(two, up.format(root=root))
    before = everything(root)
    code, words = said("checkpoints", "verify")
    assert code == 1
    assert "step 20 of session 1: damaged: its manifest is damaged" in words
    code, words = said("checkpoints", "export", "latest", "out")
    assert code == 0, words
    assert "passed over: step 20" in words
    after = everything(root)
    assert {path: after[path] for path in before} == before
    assert {path.relative_to(root).parts[0] for path in after.keys() - before.keys()} == {"out"}


@pytest.mark.parametrize("name", [1.5, 7, None, "", "a\0b", ["x"]], ids=repr)
def test_a_name_of_another_type_is_damage_for_every_verb_and_a_start_walks_back(said, two, root, name):
    leads_out(two, name)
    for verb in ("list", "verify"):
        code, words = said("checkpoints", verb)
        assert "Traceback" not in words
        assert code == (1 if verb == "verify" else 0)
    code, words = said("checkpoints", "export", "latest", "out")
    assert (code, (root / "out/state.json").read_bytes()) == (0, b"weights 10")
    brought = checkpoints.newest_whole(two.store, RunPlace("plates"), [], root / "brought")
    assert isinstance(brought.answer, cp.ResumeFrom)
    assert (brought.answer.found.id, [each.id for each in brought.answer.skipped]) == (two.ids[0], [two.ids[1]])


def test_a_manifest_of_bytes_that_are_none_is_damage(said, two):
    [old] = two.file(two.ids[-1], "x").parent.glob("manifest-*.json")
    old.unlink()
    body = b"\xff\xfe\0"
    (old.parent / cp.manifest_name(1, body)).write_bytes(body)
    code, words = said("checkpoints", "verify")
    assert code == 1
    assert "step 20 of session 1: damaged" in words


def test_a_checkpoint_whose_carried_files_lead_out_is_damage_and_the_one_before_is_taken(said, two, root):
    """What lies under the name ``files.json`` is whole by its digest; what it says would be written outside."""
    entry = {"path": "../up", "kind": "link", "target": "/etc"}
    told = {
        "format": "training-supervisor-files",
        "version": 1,
        "step": 20,
        "root": "out",
        "checkpoint": "",
        "entries": [entry],
    }
    _replace(two, "state.json", "files.json", json.dumps(told).encode())
    code, words = said("checkpoints", "verify")
    assert code == 1
    assert "entries[0].path is '../up', which does not lie below its folder" in words
    code, words = said("checkpoints", "export", "latest", "out")
    assert (code, (root / "out/state.json").read_bytes()) == (0, b"weights 10")
    assert not (root / "up").is_symlink()


def _replace(left, name, new, body):
    """Put a file of this content in the place of one, and make checkpoint.json and the manifest say so."""
    id_ = left.ids[-1]
    entry = {"name": new, "bytes": len(body), "digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}
    left.file(id_, new).write_bytes(body)
    said = json.loads(left.file(id_, "checkpoint.json").read_bytes())
    said["files"] = [entry if each["name"] == name else each for each in said["files"]]
    sealed = json.dumps(said).encode()
    left.file(id_, "checkpoint.json").unlink()
    left.file(id_, "checkpoint.json").write_bytes(sealed)
    of_seal = {"bytes": len(sealed), "digest": f"sha256:{hashlib.sha256(sealed).hexdigest()}"}

    def change(manifest):
        for each in manifest["files"]:
            if each["name"] == name:
                each.update(entry, path=each["path"].replace(name, new))
            if each["name"] == "checkpoint.json":
                each.update(of_seal)

    forge(left, id_, change)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"at": "x"}', b'{"at": [1], "evidence": 7}', b"\xff", b"[" * 200_000])
def test_a_receipt_of_anything_else_still_proves_what_its_name_says(said, two, body):
    id_ = two.ids[-1]
    path = two.root / "runs/plates" / f"verified-{id_.epoch}-{id_.step}-{id_.writer}-{id_.seq}-00.json"
    path.write_bytes(body)
    for words in (["checkpoints"], ["checkpoints", "--json"], ["status"], ["list"]):
        assert said(*words)[0] == 0, words


@pytest.mark.parametrize(
    "changes",
    [{"lives_s": ["a"]}, {"lost": "x"}, {"longest_s": {"step": None}}, {"reclaimed_on": {"colab": "ab"}}],
    ids=str,
)
def test_a_carried_history_of_other_types_is_read_past(two, changes):
    from supervisor.core.claim import Rank
    from supervisor.engine import history

    good = {"lives_s": [1.0], "reclaimed_s": [], "lost": 1, "lost_in_a_row": 0, "longest_s": {}, "reclaimed_on": {}}
    two.store.create(f"plates/{two.ids[0].rank}/history.json", json.dumps({**good, **changes}).encode())
    told = history.read(two.store, two.run, Rank(2, "b"), lambda _: None, "local")
    assert "session 1" in told.words


def test_a_pipe_in_the_place_of_a_file_keeps_no_verb_waiting(said, two):
    """Of a named pipe the first byte never comes."""
    left = two
    for name in ("state.json", "log.jsonl"):
        left.file(left.ids[-1], name).unlink()
        os.mkfifo(left.file(left.ids[-1], name))
    code, words = said("checkpoints", "verify")
    assert code == 1
    assert "step 20 of session 1: damaged" in words
    assert said("checkpoints", "export", "latest", "out")[0] == 0
    os.mkfifo(left.file(left.ids[-1], "manifest-000002-0000000000000000.json"))
    os.mkfifo(left.root / "runs/plates/pin-1-20-00000001-1.json")
    for verb in ("verify", "list"):
        assert "Traceback" not in said("checkpoints", verb)[1]
