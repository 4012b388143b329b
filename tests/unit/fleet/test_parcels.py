"""Parcels: what comes out is what went in, or nothing at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.digest import SHA256, XXH3, digest_of
from supervisor.fleet import parcels
from supervisor.fleet.parcels import Header, Letter, ParcelError, Piece

if TYPE_CHECKING:
    from pathlib import Path

BODIES = {"plates/run.json": b"{}", "plates/e00000001-aa/empty": b"", "车牌/weights (1)": os.urandom(1000)}
LETTER = Letter("abc", (1, 2), ("plates/run.json",), {"plates/x": "it is another"}, ("plates/y",))


def pieces(algorithm: str = XXH3) -> list[Piece]:
    return [Piece(path, 0, len(body), len(body), digest_of((body,), algorithm)) for path, body in BODIES.items()]


def packed(folder: Path, header: Header | None = None) -> parcels.Parcel:
    header = header or Header(7, "origin", pieces(), LETTER)
    return parcels.write(folder / "000007.parcel", "outbox/000007.parcel", header, BODIES.values())


def test_what_was_packed_comes_out_the_same(tmp_path):
    parcel = packed(tmp_path)
    opened = parcels.read(parcel.file, parcel.sha256)
    assert (opened.header.number, opened.header.origin) == (7, "origin")
    assert [(piece, bytes(body)) for piece, body in opened] == list(zip(pieces(), BODIES.values(), strict=True))
    assert opened.header.letter == LETTER
    assert opened.sha256 == parcel.sha256
    assert parcel.bytes == parcel.file.stat().st_size
    assert parcel.index() == {"file": "outbox/000007.parcel", "bytes": parcel.bytes, "sha256": parcel.sha256}


def test_a_digest_of_either_kind_is_carried(tmp_path):
    parcel = packed(tmp_path, Header(1, "origin", pieces(SHA256)))
    assert [piece.digest.partition(":")[0] for piece, _ in parcels.read(parcel.file)] == [SHA256] * len(BODIES)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_cut_short_it_is_refused(tmp_path, share):
    parcel = packed(tmp_path)
    parcel.file.write_bytes(parcel.file.read_bytes()[: int(share * parcel.bytes)])
    with pytest.raises(ParcelError):
        parcels.read(parcel.file)


@pytest.mark.slow
@settings(max_examples=50)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_byte_that_changed_is_seen(tmp_path_factory, at, flip):
    parcel = packed(tmp_path_factory.mktemp("parcel"))
    body = bytearray(parcel.file.read_bytes())
    body[at % len(body)] ^= flip
    parcel.file.write_bytes(body)
    with pytest.raises(ParcelError):
        parcels.read(parcel.file)


@pytest.mark.parametrize("body", [b"", b"<html>502 Bad Gateway</html>", b"tsparcl1", os.urandom(5000)])
def test_garbage_is_refused(tmp_path, body):
    (tmp_path / "garbage").write_bytes(body)
    with pytest.raises(ParcelError):
        parcels.read(tmp_path / "garbage")


def test_a_whole_parcel_that_is_not_the_one_that_was_told_of_is_refused(tmp_path):
    parcel = packed(tmp_path)
    with pytest.raises(ParcelError, match="changed"):
        parcels.read(parcel.file, "0" * 64)


def test_what_no_parcel_can_be_is_not_read_into_memory(tmp_path):
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(parcels.BYTES_MAX + 1)
    with pytest.raises(ParcelError, match="which no parcel has"):
        parcels.read(tmp_path / "huge")


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../b", "a//b", "./a", "", "a/", "a/.tmp-1", "nul\0", "x" * 1001]
)
def test_no_path_leads_out_of_the_store_even_of_a_parcel_that_is_whole(tmp_path, path):
    header = Header(1, "origin", [Piece(path, 0, 1, 1, digest_of((b"x",), XXH3))])
    parcel = parcels.write(tmp_path / "1.parcel", "outbox/1.parcel", header, [b"x"])
    with pytest.raises(ParcelError):
        parcels.read(parcel.file, parcel.sha256)


@pytest.mark.parametrize(
    "wrong", [{"offset": -1}, {"bytes": 2}, {"total": 0}, {"offset": 1}, {"digest": "md5:1"}, {"bytes": True}, {"path": 3}]
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused(tmp_path, monkeypatch, wrong):
    header = Header(1, "origin", [Piece("a", 0, 1, 1, digest_of((b"x",), XXH3))])
    plain = parcels._plain

    def twisted(told: Header) -> dict:
        made = plain(told)
        made["entries"][0] |= wrong
        return json.loads(json.dumps(made))

    monkeypatch.setattr(parcels, "_plain", twisted)
    parcel = parcels.write(tmp_path / "1.parcel", "outbox/1.parcel", header, [b"x"])
    with pytest.raises(ParcelError):
        parcels.read(parcel.file, parcel.sha256)


def test_a_newer_version_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(parcels, "VERSION", 2)
    parcel = packed(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ParcelError, match="newer version"):
        parcels.read(parcel.file)


def test_one_that_could_not_be_written_leaves_no_name(tmp_path):
    def failing():
        yield b"{}"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        parcels.write(tmp_path / "1.parcel", "outbox/1.parcel", Header(1, "origin", pieces()), failing())
    assert not (tmp_path / "1.parcel").exists()


@given(st.lists(st.integers(0, 3 * parcels.CONTENT_BYTES_MAX // 2), min_size=1, max_size=30))
def test_parcels_are_filled_in_order_and_none_is_too_large(sizes):
    made = [
        Piece(f"f{number}", 0, min(size, parcels.CONTENT_BYTES_MAX), size, "xxh3-128:0")
        for number, size in enumerate(sizes)
    ]
    filled = list(parcels.filled(made))
    assert [piece for inside in filled for piece in inside] == made
    for inside, following in zip(filled, [*filled[1:], None], strict=True):
        content = sum(piece.bytes for piece in inside)
        assert content <= parcels.CONTENT_BYTES_MAX
        assert following is None or content + following[0].bytes > parcels.CONTENT_BYTES_MAX


def test_many_small_files_do_not_burst_the_header():
    made = [Piece("p" * 999, 0, 0, 0, "xxh3-128:0") for _ in range(500)]
    assert max(len(inside) for inside in parcels.filled(made)) < 200
