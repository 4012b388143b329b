"""A record is believed by its signature alone: of this key, for this run, over every byte."""

from __future__ import annotations

from supervisor.core import signing
from supervisor.core.environment import Found, Locked, Record, is_whole

MINE, OTHER = "a" * 64, "b" * 64
RECORD = Record(Found("3.11.7", "cp311", "linux-x86_64"), ("tool",), (Locked("tool", "1", ("sha256:" + "0" * 64,)),))


def test_a_record_is_signed_for_one_run_and_reads_as_before():
    key = signing.key_of_run(MINE, "toy")
    body = signing.signed(RECORD.to_bytes(), key)
    assert signing.is_signed(body, key)
    assert signing.without_signature(body) == RECORD.to_bytes()
    assert Record.from_bytes(body) == RECORD
    assert is_whole(body)


def test_another_key_another_run_and_another_byte_are_no_signature():
    key = signing.key_of_run(MINE, "toy")
    body = signing.signed(RECORD.to_bytes(), key)
    assert not signing.is_signed(body, signing.key_of_run(OTHER, "toy"))
    assert not signing.is_signed(body, signing.key_of_run(MINE, "toy2"))
    assert not signing.is_signed(body.replace(b"tool==1", b"evil==1"), key)
    assert not signing.is_signed(body + b"evil==1\n", key)
    assert not signing.is_signed(RECORD.to_bytes(), key)
    assert not signing.is_signed(b"", key)


def test_a_machine_has_the_key_of_its_run_and_that_is_the_key_at_home():
    key = signing.key_of_run(MINE, "toy")
    assert signing.KEY.fullmatch(key)
    assert signing.key_of_run(key, "other") == key
    assert MINE not in key
