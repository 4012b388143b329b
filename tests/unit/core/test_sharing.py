"""What is shared is never sent twice, never taken from another session, and goes when its last checkpoint goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.checkpoint import CheckpointId, FileEntry, Manifest
from supervisor.core.sharing import SHARED_BYTES_MIN, Remaining, already_there, only_theirs, unneeded

PIECES = 3
BIG = SHARED_BYTES_MIN
SESSION = "e00000001-a"


def folder(step: int, session: str = SESSION) -> str:
    return f"{session}/step-{step:09d}"


def published(step: int, contents: tuple[int, ...], newest: Manifest | None) -> Manifest:
    """A checkpoint whose pieces hold these contents, put in behind ``newest`` as publishing does."""
    entries = []
    for index, content in enumerate(contents):
        name, promised = f"state-{index:05d}.safetensors", (BIG + content, f"sha256:{content}")
        sent = FileEntry(name, f"{folder(step)}/{name}", *promised)
        entries.append(already_there(newest, name, promised, BIG) or sent)
    return Manifest(CheckpointId(1, step, "a", step), tuple(entries))


@st.composite
def histories(draw):
    """Checkpoints of one session; each but the first sees one before it as the newest DURABLE."""
    contents = draw(st.lists(st.tuples(*[st.integers(0, 3)] * PIECES), min_size=1, max_size=7))
    made: list[Manifest] = []
    for step, each in enumerate(contents, 1):
        newest = draw(st.sampled_from([None, *made])) if made else None
        made.append(published(step, each, newest))
    return made


def paths(manifest: Manifest) -> set[str]:
    return {entry.path for entry in manifest.files}


@given(histories())
def test_every_entry_names_a_file_that_was_sent_with_that_content(made):
    sent = {
        entry.path: entry.digest
        for manifest in made
        for entry in manifest.files
        if entry.path.startswith(folder(manifest.id.step))
    }
    for manifest in made:
        assert all(sent[entry.path] == entry.digest for entry in manifest.files)
        assert [entry.name for entry in manifest.files] == [f"state-{index:05d}.safetensors" for index in range(PIECES)]


@given(histories(), st.data())
def test_whatever_goes_in_whatever_order_the_rest_loads_and_in_the_end_nothing_is_left(made, data):
    there = set().union(*map(paths, made))
    left = list(made)
    while left:
        left.remove(data.draw(st.sampled_from(left)))
        owners = {folder(each.id.step) for each in left}
        ownerless = [path for path in there if path.rpartition("/")[0] not in owners]
        there -= set(unneeded(ownerless, [Remaining(folder(each.id.step), paths(each)) for each in left]))
        assert all(paths(each) <= there for each in left)
    assert not there


@given(histories(), st.data())
def test_a_manifest_that_cannot_be_read_keeps_what_it_could_name(made, data):
    unread = data.draw(st.sampled_from(made))
    remaining = [Remaining(folder(unread.id.step), None)]
    everything = set().union(*map(paths, made))
    gone = set(unneeded(everything, remaining))
    assert not gone & paths(unread)
    assert gone == {path for path in everything if path.split("/")[1] > folder(unread.id.step).split("/")[1]}


def test_a_manifest_that_cannot_be_read_keeps_nothing_of_another_session():
    files = [f"{folder(1, 'e00000002-b')}/x.safetensors", f"{folder(1)}/x.safetensors"]
    assert unneeded(files, [Remaining(folder(5), None)]) == files[:1]


@pytest.mark.parametrize(
    "twin",
    [
        "e00000001-a/step-000000001/x (1).safetensors",
        "e00000001-a/step-000000001 (2)/x.safetensors",
        "e00000001-a (1)/step-000000001/x.safetensors",
    ],
)
def test_a_twin_of_a_needed_file_stays_because_it_may_be_the_one_that_is_whole(twin):
    needed = [Remaining(folder(5), ["e00000001-a/step-000000001/x.safetensors"])]
    assert unneeded([twin], needed) == []
    assert unneeded([twin], []) == [twin]


def test_only_large_pieces_of_tensors_are_shared():
    newest = Manifest(
        CheckpointId(1, 1, "a", 1),
        (
            FileEntry("state.json", f"{folder(1)}/state.json", BIG, "sha256:1"),
            FileEntry("a.safetensors", f"{folder(1)}/a.safetensors", BIG, "sha256:2"),
            FileEntry("b.safetensors", f"{folder(1)}/b.safetensors", BIG - 1, "sha256:3"),
        ),
    )
    assert already_there(newest, "state.json", (BIG, "sha256:1"), BIG) is None
    assert already_there(newest, "b.safetensors", (BIG - 1, "sha256:3"), BIG) is None
    assert already_there(newest, "a.safetensors", (BIG, "sha256:9"), BIG) is None
    assert already_there(newest, "a.safetensors", (BIG + 1, "sha256:2"), BIG) is None
    assert already_there(None, "a.safetensors", (BIG, "sha256:2"), BIG) is None
    found = already_there(newest, "renamed.safetensors", (BIG, "sha256:2"), BIG)
    assert found == replace(newest.files[1], name="renamed.safetensors")


@given(histories(), st.data())
def test_what_goes_frees_what_nobody_else_names(made, data):
    going = data.draw(st.lists(st.sampled_from(made), unique_by=id))
    staying = [each for each in made if each not in going]
    lengths = {entry.path: entry.bytes for each in going for entry in each.files}
    kept = set().union(*map(paths, staying)) if staying else set()
    assert only_theirs(going, staying) == sum(length for path, length in lengths.items() if path not in kept)
    assert only_theirs(made, []) == sum(each.sent_bytes for each in made)
