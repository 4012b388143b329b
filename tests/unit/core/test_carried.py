"""What files.json says of a script's files comes back as it was, or is refused in words; nothing in it leads out of the folder."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.carried import FILE, FOLDER, LINK, VERSION, Carried, Entry, Piece, body, parse
from supervisor.core.content import ContentError, NewerContent

PIECE = Piece("bundle-000001", 3, 5, "sha256:00")
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=5).filter(
    lambda name: name not in {".", ".."}
)
PIECES = st.from_regex(r"(file|bundle)-[0-9]{6}", fullmatch=True)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
SIZES = st.integers(0, 2**62)
TIMES = st.integers(-(2**62), 2**62)
ENTRIES = st.one_of(
    st.builds(
        Entry,
        PATHS,
        st.just(FILE),
        st.integers(0, 0o777),
        TIMES,
        st.builds(Piece, PIECES, SIZES, SIZES, st.just("sha256:00")),
    ),
    st.builds(Entry, PATHS, st.just(FOLDER), st.integers(0, 0o777)),
    st.builds(Entry, PATHS, st.just(LINK), target=st.text(st.characters(exclude_characters="\0"), max_size=8)),
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


def told(**changes):
    entry = {"path": "a.pt", "kind": FILE, "mode": 0o644, "mtime_ns": 1, "piece": piece(), **changes}
    return json.dumps({**json.loads(body(Carried(7, "out", ()))), "entries": [entry]}).encode()


def piece(**changes):
    return {"name": PIECE.name, "offset": PIECE.offset, "bytes": PIECE.bytes, "digest": PIECE.digest, **changes}


def apart(entries):
    """Whether no entry lies below a link among them."""
    links = {f"{entry.path}/" for entry in entries if entry.kind == LINK}
    return not any(entry.path.startswith(tuple(links)) for entry in entries)


@given(
    SIZES,
    PATHS | st.just(""),
    st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.path).map(tuple).filter(apart),
    PATHS | st.just(""),
)
def test_what_was_written_is_read(step, root, entries, checkpoint):
    carried = Carried(step, root, entries, checkpoint)
    assert parse(body(carried)) == carried


def test_a_name_that_is_no_utf8_comes_back_byte_for_byte():
    entry = Entry("caf\udce9/a.pt", FILE, 0o644, 1, PIECE)
    assert parse(body(Carried(7, "out", (entry,)))).entries == (entry,)


@pytest.mark.parametrize("path", ["../a.pt", "a/../../b.pt", "/etc/passwd", "a//b.pt", "a/", "", ".", "a\0b"])
def test_a_path_outside_the_folder_is_refused(path):
    with pytest.raises(ContentError, match=r"entries\[0\]\.path"):
        parse(told(path=path))


@pytest.mark.parametrize("name", ["../state.json", "a/b", "", ".", ".."])
def test_content_outside_the_checkpoint_is_refused(name):
    with pytest.raises(ContentError, match=r"piece\.name is"):
        parse(told(piece=piece(name=name)))


@pytest.mark.parametrize(
    "changes", [{"kind": "pipe"}, {"kind": FOLDER}, {"piece": None}, {"more": 1}, {"piece": {"name": "x"}}, {"path": 5}]
)
def test_an_entry_that_cannot_be_is_refused(changes):
    with pytest.raises(ContentError):
        parse(told(**changes))


@pytest.mark.parametrize(
    ("links", "allowed"),
    [
        ({"a": "/etc"}, False),
        ({"a": "../up"}, False),
        ({"a": "b", "b": "./x/../.."}, False),
        ({"a": "a"}, False),
        ({"a": "b/../c"}, False),
        ({"a": "run-1"}, False),
        ({"b": "run-1"}, True),
    ],
)
def test_a_file_below_a_link_may_not_lead_out_of_the_folder(links, allowed):
    below = Entry("a/model.pt", FILE, 0o644, 1, PIECE)
    entries = (*(Entry(path, LINK, target=target) for path, target in links.items()), below)
    read = body(Carried(7, "out", entries))
    if allowed:
        assert parse(read).entries == entries
    else:
        with pytest.raises(ContentError, match="outside its folder"):
            parse(read)


WRONG = [
    {"path": "a\0b"}, {"mode": "rw"}, {"mode": -1}, {"mtime_ns": 1 << 70}, {"mtime_ns": 1.5}, {"kind": ["file"]},
    {"piece": piece(bytes="x")}, {"piece": piece(offset=-1)}, {"piece": piece(digest=7)}, {"piece": piece(name="a\0")},
    {"piece": piece(name="a" * 300)}, {"piece": 5}, {"target": 5},
]  # fmt: skip


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_a_field_of_another_type_or_size_is_refused(changes):
    with pytest.raises(ContentError):
        parse(told(**changes))


def test_what_a_newer_version_wrote_is_told_apart():
    newer = {**json.loads(body(Carried(7, "out", ()))), "version": VERSION + 1}
    with pytest.raises(NewerContent):
        parse(json.dumps(newer).encode())


@given(st.one_of(st.binary(max_size=60), TREES.map(lambda tree: json.dumps(tree).encode())))
def test_anything_else_is_refused_and_raises_nothing_worse(read):
    with pytest.raises(ContentError):
        parse(read)
