"""Packed where the upload is slow, bit for bit the same when it is brought back, and never trusted without its digests."""

from __future__ import annotations

import array
import errno
import json
import random
import re
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervisor.core import checkpoint as cp
from supervisor.core import events as ev
from supervisor.core.errors import UserError
from supervisor.core.instant import Instant
from supervisor.core.packing import Policy
from supervisor.engine import catalogue, checkpoints, container
from supervisor.engine.storing import Storing
from supervisor.stores.folder import FolderStore
from tests.faults import syscalls
from tests.faults.laws import laws_hold
from tests.faults.world import RUN, World

zstandard = pytest.importorskip("zstandard")
PIECE = "state-00000.safetensors"
DTYPES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I64": 8, "BOOL": 1, "U8": 1, "C64": 8, "F4": 1}
FORMAT = Path(__file__).parents[3] / "docs" / "format.md"


def safetensors(tensors: list[tuple[str, bytes]]) -> bytes:
    header, at = {"__metadata__": {"made": "by hand"}}, 0
    for index, (dtype, body) in enumerate(tensors):
        header[f"t{index}"] = {"dtype": dtype, "shape": [len(body)], "data_offsets": [at, at + len(body)]}
        at += len(body)
    said = json.dumps(header).encode()
    return struct.pack("<Q", len(said)) + said + b"".join(body for _, body in tensors)


def numbers(seed: int, count: int = 4096) -> bytes:
    chance = random.Random(seed)
    return safetensors([("F32", array.array("f", [chance.gauss(0, 0.02) for _ in range(count)]).tobytes())])


class SlowStore(FolderStore):
    """A folder whose every byte takes its time, on a clock that only this makes go on."""

    def __init__(self, root, rate):
        super().__init__(root)
        self.rate, self.now_s = rate, 100.0
        self.pushed: list[tuple[str, int]] = []

    def push(self, local, path, algorithm, *, link=False):
        measured = super().push(local, path, algorithm, link=link)
        self.now_s += measured.bytes / self.rate
        self.pushed.append((path.rpartition("/")[2], measured.bytes))
        return measured

    def now(self):
        return Instant(1_700_000_000 + self.now_s, self.now_s)


class Compressible(World):
    """A world whose state is numbers, as those of a model are."""

    def content(self, step):
        return {PIECE: numbers(step)}


@pytest.fixture
def world(tmp_path):
    (tmp_path / "script.py").write_text("pass\n")
    return Compressible(tmp_path, (1, 30))


@pytest.fixture
def turn(world):
    """A session whose uploads take 16 seconds a checkpoint."""
    store = SlowStore(world.where, 1000.0)
    turn = world.turn("first", store)
    turn.storing = Storing(replace(turn.storing.job, clock=store, packing=Policy(bytes_min=1000)))
    turn.begin()
    return turn


def published(turn):
    assert isinstance(turn.publish(turn.stage()), ev.Durable)
    found = max(checkpoints.find(turn.store, RUN), key=lambda each: each.id)
    return checkpoints.read_manifest(turn.store, found).manifest


def piece(manifest):
    return next(entry for entry in manifest.files if entry.name == PIECE)


def verdicts(world):
    return {each.id: each for each in catalogue.judged(world.store(), RUN, world.root / "machine")}


def test_the_first_upload_is_measured_and_the_next_is_packed(world, turn):
    first, second = published(turn), published(turn)
    assert piece(first).packing == ""
    packed = piece(second)
    assert packed.packing == cp.PLANES_ZSTD
    assert packed.path.endswith(f"{PIECE}.packed")
    assert packed.packed_bytes * 1.05 < packed.bytes == piece(first).bytes
    assert second.sent_bytes == second.bytes - packed.bytes + packed.packed_bytes
    assert (f"{PIECE}.packed", packed.packed_bytes) in turn.store.pushed
    assert {each.verdict for each in verdicts(world).values()} == {cp.Verdict.WHOLE}
    ready = world.turn("fresh").begin()
    assert (Path(ready.folder) / PIECE).read_bytes() == numbers(turn.step)
    assert not [path for path in Path(ready.folder).iterdir() if path.name.endswith(".packed")]


def test_packing_goes_on_while_it_pays_and_stops_when_the_upload_is_fast(turn):
    published(turn)
    assert all(piece(published(turn)).packing for _ in range(3))
    turn.store.rate = 1e9
    for _ in range(3):
        published(turn)
    assert not piece(published(turn)).packing


def test_nothing_is_packed_beside_a_fast_store(turn):
    turn.store.rate = 1e9
    assert not any(piece(published(turn)).packing for _ in range(3))


def test_noise_is_sent_as_it_is(turn, monkeypatch):
    published(turn)
    noise = random.Random(1).randbytes(20_000)
    monkeypatch.setattr(Compressible, "content", lambda *_: {PIECE: noise})
    assert not piece(published(turn)).packing


def test_packing_leaves_nothing_on_the_local_disk(turn):
    published(turn)
    folder = turn.stage()
    turn.publish(folder)
    assert not [path for path in folder.rglob("*") if path.is_file() and "pack" in path.name]


def test_without_room_for_the_copy_the_file_is_sent_as_it_is(turn):
    published(turn)
    folder = turn.stage()
    with syscalls.bent(syscalls.failing(1, errno.ENOSPC, lasting=True, of=str(folder / ".packing"))):
        assert isinstance(turn.publish(folder), ev.Durable)
    assert turn.store.pushed[-1][0] != f"{PIECE}.packed"
    assert f"{PIECE}.packed" not in {name for name, _ in turn.store.pushed}


def test_a_file_that_changed_after_it_was_staged_is_refused_packed_too(turn):
    published(turn)
    folder = turn.stage()
    (folder / PIECE).unlink()
    (folder / PIECE).write_bytes(numbers(12345))
    outcome = turn.publish(folder)
    assert isinstance(outcome, ev.PublishFailed)
    assert outcome.hopeless


def test_a_retry_takes_the_packed_file_that_lies_there(turn):
    published(turn)
    folder, right = turn.stage(), turn.store.create
    turn.store.create = _once_unreadable(turn.store)
    with pytest.raises(Exception, match="once"):
        turn.publish(folder)
    turn.store.create = right
    assert isinstance(turn.publish(folder), ev.Durable)
    assert [name for name, _ in turn.store.pushed if "~" in name] == []


def _once_unreadable(store):
    from supervisor.core.ports import StoreError

    def create(path, body):
        raise StoreError("once")

    return create


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "empty", "longer"])
def test_a_damaged_packed_file_is_noticed(world, turn, harm):
    first, second = published(turn), published(turn)
    path = world.root / "store" / RUN.name / piece(second).path
    body = bytearray(path.read_bytes())
    path.unlink()
    if harm != "gone":
        body[len(body) // 2] ^= 1
        path.write_bytes({"flip": body, "cut": body[:-5], "empty": b"", "longer": body + b"more"}[harm])
    judged = verdicts(world)
    assert judged[second.id].verdict is cp.Verdict.BROKEN
    assert world.turn("fresh").begin().id == first.id


def test_an_unchanged_packed_file_is_shared_too(world, turn, monkeypatch):
    published(turn)
    monkeypatch.setattr(Compressible, "content", lambda *_: {PIECE: numbers(7)})
    turn.storing.job = replace(turn.storing.job, shared_bytes_min=1000)
    second, third = published(turn), published(turn)
    assert piece(second).packing
    assert piece(third) == piece(second)
    assert third.sent_bytes < 3000
    assert {each.verdict for each in verdicts(world).values()} == {cp.Verdict.WHOLE}


def test_the_laws_hold_with_packed_files(world, turn):
    for _ in range(4):
        published(turn)
        turn.storing.retain()
    laws_hold(world)


def test_a_packing_that_is_not_known_stops_and_asks():
    entry = cp.FileEntry(
        "a", "e00000001-a/step-000000001/a", 1, "sha256:0", packing="magic", packed_bytes=1, packed_digest="sha256:0"
    )
    body = cp.manifest_body(cp.Manifest(cp.CheckpointId(1, 2, "a", 1), (entry,)))
    assert json.loads(body)["schema"] == cp.PACKED_SCHEMA
    with pytest.raises(cp.NewerFormat, match="magic"):
        cp.parse_manifest(cp.manifest_name(1, body), body)


def test_a_manifest_without_packed_files_reads_as_before_there_was_packing():
    entry = cp.FileEntry("a", "e00000001-a/step-000000001/a", 1, "sha256:0")
    body = cp.manifest_body(
        cp.Manifest(
            cp.CheckpointId(1, 2, "a", 1),
            (entry,),
            log=replace(entry, name="l", path="e00000001-a/log-000001-000000000-000000001.jsonl"),
        )
    )
    assert json.loads(body)["schema"] == 1
    assert b"pack" not in body
    assert cp.parse_manifest(cp.manifest_name(1, body), body).files == (entry,)


def test_without_the_package_nothing_is_packed_and_what_is_packed_asks_for_it(world, turn, monkeypatch):
    published(turn)
    published(turn)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert not piece(published(turn)).packing
    with pytest.raises(UserError, match="packed with zstd") as asked:
        verdicts(world)
    assert "zstandard" in asked.value.hint


@st.composite
def files(draw):
    if draw(st.booleans()):
        return draw(st.binary(max_size=3000))
    tensors = draw(st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), st.integers(0, 700)), max_size=6))
    odd = draw(st.integers(0, 3))
    chance = draw(st.randoms(use_true_random=False))
    made = [(dtype, chance.randbytes(count * DTYPES[dtype])) for dtype, count in tensors]
    return safetensors(made) + b"?" * odd


@settings(deadline=None)
@given(files(), st.sampled_from([7, 64, 1024 * 1024]))
@example(b"", 64)
@example(struct.pack("<Q", 2**60), 64)
@example(struct.pack("<Q", 2) + b"[]" + b"12345", 64)
@example(safetensors([("F32", b"123")]), 64)
def test_any_file_comes_back_bit_for_bit(body, block_bytes):
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "BLOCK_BYTES", block_bytes)
        source, packed, back = (Path(folder) / name for name in ("source", "packed", "back"))
        source.write_bytes(body)
        read, written = container.pack(source, packed, "sha256")
        assert container.unpack(packed, back, "sha256") == read
        assert back.read_bytes() == body
        assert written.bytes == packed.stat().st_size
        assert sum(block.length for block in container.blocks(source)) == len(body)


@settings(deadline=None)
@given(st.data())
def test_bytes_that_are_no_packed_file_raise_nothing_else(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    source, packed = folder / "source", folder / "packed"
    source.write_bytes(numbers(3, 200))
    container.pack(source, packed, "sha256")
    body = bytearray(packed.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    packed.write_bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        container.unpack(packed, folder / "back", "sha256")
    except container.Damaged:
        return


FRAME_OF_8_BYTES_LENGTH = b"\x28\xb5\x2f\xfd\xe0"  # zstd's magic, then: one segment, the length stands in eight bytes


@pytest.mark.parametrize("told", [2**62, 2**40, 65, 63])
def test_a_frame_that_claims_another_length_than_its_block_is_damaged_before_anything_is_allocated(tmp_path, told):
    frame = FRAME_OF_8_BYTES_LENGTH + struct.pack("<Q", told) + zstandard.ZstdCompressor().compress(bytes(64))[6:]
    (tmp_path / "packed").write_bytes(container.MAGIC + container.HEAD.pack(1, 64, len(frame)) + frame)
    with pytest.raises(container.Damaged, match="disagree about their length"):
        container.unpack(tmp_path / "packed", tmp_path / "back", "sha256")


def test_a_block_that_claims_more_bytes_than_the_file_holds_is_damaged_before_it_is_read(tmp_path):
    head = container.HEAD.pack(4, 64, container.BLOCK_BYTES_MAX)
    (tmp_path / "packed").write_bytes(container.MAGIC + head + b"few")
    tracemalloc.start()
    try:
        with pytest.raises(container.Damaged, match="in the middle of a block"):
            container.unpack(tmp_path / "packed", tmp_path / "back", "sha256")
        assert tracemalloc.get_traced_memory()[1] < container.BLOCK_BYTES_MAX // 8
    finally:
        tracemalloc.stop()


def test_a_frame_without_a_length_is_read_as_far_as_its_block_says(tmp_path):
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    for length, body in ((64, bytes(64)), (64, bytes(63)), (64, bytes(65))):
        frame = compressor.compress(body)
        (tmp_path / "packed").write_bytes(container.MAGIC + container.HEAD.pack(1, length, len(frame)) + frame)
        if len(body) == length:
            assert container.unpack(tmp_path / "packed", tmp_path / "back", "sha256").bytes == length
            continue
        with pytest.raises(container.Damaged):
            container.unpack(tmp_path / "packed", tmp_path / "back", "sha256")


def test_it_is_cut_along_its_tensors():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.write_bytes(safetensors([("F32", bytes(8)), ("F32", bytes(12)), ("F16", bytes(6)), ("U8", bytes(5))]))
        widths = [(block.length, block.width) for block in container.blocks(source)]
        assert widths[1:] == [(20, 4), (6, 2), (5, 1)]
        assert widths[0][1] == 1


def test_the_program_in_the_documents_unpacks_it(tmp_path):
    program = re.search(r"```python\n(import struct, sys, zstandard.*?)```", FORMAT.read_text(), re.DOTALL)
    (tmp_path / "source").write_bytes(numbers(5) + b"odd")
    container.pack(tmp_path / "source", tmp_path / "packed", "sha256")
    (tmp_path / "unpack.py").write_text(program[1])
    subprocess.run([sys.executable, tmp_path / "unpack.py", tmp_path / "packed", tmp_path / "back"], check=True)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "source").read_bytes()
