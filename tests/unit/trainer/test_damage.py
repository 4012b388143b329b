"""Whatever bit of a checkpoint is not what was written, reading it says so; a whole one is read whatever shape it has."""

import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core import safetensors_file
from supervisor.core.safetensors_file import Entry
from supervisor.trainer import folder, frameworks, reading
from supervisor.trainer.folder import DamagedError, open_folder, read
from supervisor.trainer.reading import DamageError, File
from supervisor.trainer.state import State

PADDING = ord(" ")


@pytest.fixture
def small(stage, holder, monkeypatch):
    """A checkpoint of a few kilobytes with every file that there is, and more than one piece."""
    monkeypatch.setattr(frameworks, "loaded", lambda: [frameworks.named("plain")])
    state = {"numbers": array("d", [1.5, -2.5]), "none": bytearray(), "words": {"epoch": 3}, "tail": bytearray(b"abc")}
    return stage(piece_bytes_max=16, model=holder(state), data=holder([1, 2.5, None]))


def assert_noticed(path: Path, folder_: Path, place: int, bit: int) -> None:
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match="is damaged"):
        read(folder_)
    path.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint.json", "state.json", "log.jsonl", "state-00000.safetensors", "rng.json"])
def test_every_flipped_bit_is_noticed(small, name):
    content = (small / name).read_bytes()
    for place, byte in enumerate(content):
        is_bulk = name == "rng.json" or (name.endswith("safetensors") and byte == PADDING)
        for bit in (place % 8,) if is_bulk else range(8):
            assert_noticed(small / name, small, place, bit)
    assert read(small)["model"]["tail"] == b"abc"


def test_bits_flipped_anywhere_in_any_file_are_noticed(small):
    chance = random.Random(5)
    for path in sorted(small.iterdir()):
        for _ in range(20):
            assert_noticed(path, small, chance.randrange(path.stat().st_size), chance.randrange(8))


def test_a_seal_cannot_be_got_rid_of_by_an_older_or_newer_version(small):
    content = small / "checkpoint.json"
    whole = content.read_bytes()
    for version in (b"0", b"1", b"3", b"9"):
        content.write_bytes(whole.replace(b'"version": 2', b'"version": ' + version))
        with pytest.raises(DamagedError):
            read(small)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b"{}",
        b"[" * 200_000,
        b'{"model.numbers":3}',
        b'{"model.numbers":{"dtype":"F64","shape":[2],"data_offsets":[0]}}',
        b'{"model.numbers":{"dtype":"F64","shape":[2],"data_offsets":[0,-1]}}',
        b'{"model.numbers":{"dtype":"F64","shape":[2],"data_offsets":[0.5,16]}}',
        b'{"model.numbers":{"dtype":"F64","shape":[2],"data_offsets":[0,999999]}}',
        b'{"model.numbers":{"dtype":"F64","shape":[2],"data_offsets":["0","16"]}}',
        b'{"model.numbers":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}',
        b"\xff\xfe\xfa",
    ],
)
def test_a_header_that_nobody_wrote_is_damage_whatever_stands_there(small, header):
    piece = small / "state-00000.safetensors"
    size = piece.stat().st_size
    body = len(header).to_bytes(8, "little") + header
    piece.write_bytes((body + bytes(size))[: max(size, len(body))])
    with pytest.raises(DamagedError):
        read(small)


@pytest.mark.parametrize("length", [0, 3, 8, 100])
def test_a_piece_that_ends_within_its_header_is_damage(small, length):
    piece = small / "state-00000.safetensors"
    piece.write_bytes(piece.read_bytes()[:length])
    with pytest.raises(DamagedError):
        read(small)


def test_two_pieces_that_changed_places_are_damage(small):
    one, other = small / "state-00000.safetensors", small / "state-00001.safetensors"
    first, second = one.read_bytes(), other.read_bytes()
    assert first != second
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(DamagedError):
        read(small)


def test_a_damaged_checkpoint_is_refused_when_it_is_put_back(small, holder):
    path = small / "state-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    attached = {"model": holder(), "data": holder()}
    with pytest.raises(DamagedError):
        State(attached).restore(open_folder(small))
    assert attached["model"].state is None, "nothing is loaded before everything is verified"


sizes = st.lists(st.sampled_from([0, 0, 1, 3, 8, 100, 5000]), max_size=12)


@given(sizes=sizes, limit=st.sampled_from([7, 64, 4096, 256_000_000]), wanted=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_leaves_of_any_sizes_also_of_none_are_read_where_they_belong(tmp_path_factory, sizes, limit, wanted):
    """Some of them are only verified; the slices are small, so that every way of grouping them is met."""
    path = tmp_path_factory.mktemp("read") / "state-00000.safetensors"
    contents = [bytes(wanted.randrange(256) for _ in range(size)) for size in sizes]
    at, entries = 0, []
    for number, content in enumerate(contents):
        entries.append(Entry(f"t{number}", "U8", (len(content),), at, len(content)))
        at += len(content)
    body = safetensors_file.header(entries) + b"".join(contents)
    path.write_bytes(body)
    from supervisor.core.digest import digest_of, preferred

    file = File(path, len(body), digest_of([body], preferred()))
    places = reading.located([file], {})
    chosen = [number for number in range(len(sizes)) if wanted.random() < 0.7]
    wanted.shuffle(chosen)
    outs = {number: bytearray(sizes[number]) for number in chosen}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "SLICE_BYTES", limit)
        reading.fill(
            [file],
            [
                (extent, reading.HostTarget(memoryview(outs[number]), lambda: None))
                for number in chosen
                for extent in places[f"t{number}"]
            ],
        )
    assert outs == {number: contents[number] for number in chosen}


def test_of_several_readers_the_first_error_is_raised_and_all_threads_end(tmp_path):
    import threading

    files = []
    for number in range(6):
        path = tmp_path / f"state-{number:05d}.safetensors"
        path.write_bytes(b"x" * (1000 + number))
        files.append(File(path, 1000 + number, "sha256:not-this"))
    before = threading.active_count()
    with pytest.raises(DamageError, match="its digest differs"):
        reading.fill(files, [])
    assert threading.active_count() == before


def test_a_short_read_is_gone_on_with(small, monkeypatch):
    import os

    real = os.preadv

    def short(descriptor, rooms, at, flags=0):
        first = next(room for room in rooms if len(room))
        return real(descriptor, [first[: max(1, len(first) // 3)]], at, flags)

    wanted = read(small)
    monkeypatch.setattr(os, "preadv", short)
    assert read(small) == wanted


def test_a_tensor_for_two_owners_is_read_once_and_given_to_both(stage, holder):
    shared = array("d", range(500))
    path = stage(one=holder({"w": shared}), other=holder({"w": shared}))
    one, other = holder(), holder()
    State({"one": one, "other": other}).restore(open_folder(path))
    assert one.state["w"] == other.state["w"] == shared


def test_names_that_look_like_parts_of_another_tensor_do_not_collide(round_trip):
    state = {"x": array("d", range(100)), "x~part0": array("d", range(3)), "x~part1": bytearray(b"abc")}
    assert round_trip(state, piece_bytes_max=80) == state


def test_content_without_any_tensor_is_a_checkpoint_too(stage, holder):
    path = stage(thing=holder({"count": 3}))
    assert not list(path.glob("*.safetensors"))
    assert folder.read(path)["thing"] == {"count": 3}


def test_a_file_that_is_not_in_memory_is_read_by_one_reader_alone(stage, holder, monkeypatch):
    import os
    import threading

    path = stage(thing=holder({str(n): array("d", range(500)) for n in range(4)}), piece_bytes_max=4096)
    wanted, readers, real = read(path), set(), os.preadv

    def cold(descriptor, rooms, at, flags=0):
        if flags:
            raise BlockingIOError  # what the system says of pages that are not there
        readers.add(threading.current_thread())
        return real(descriptor, rooms, at)

    monkeypatch.setattr(os, "preadv", cold)
    assert read(path) == wanted
    assert len(readers) == 1
