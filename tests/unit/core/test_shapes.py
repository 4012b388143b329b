"""The one reader of records: a value that fits, or the path to the field that does not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping  # noqa: TC003  # evaluated when the shape is read
from dataclasses import field
from typing import Any

import pytest

from supervisor.core import carried, content, environment, safetensors_file, shapes
from supervisor.core import checkpoint as cp
from supervisor.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    name: shapes.Name
    bytes: shapes.Whole


@dataclass(frozen=True, slots=True)
class Thing:
    step: shapes.Step
    parts: tuple[Part, ...]
    rate: float = 1.0
    label: str | None = None
    flag: bool = False
    sums: Mapping[str, float] = field(default_factory=dict)
    either: int | str = 0
    more: Any = None


GOOD = {"step": 3, "parts": [{"name": "a.bin", "bytes": 4}], "sums": {"loss": 2}}


def read(told):
    return shapes.read(Thing, json.dumps(told).encode())


def test_what_fits_is_the_value_and_what_is_not_known_is_left_out():
    thing = read({**GOOD, "of a newer version": 1})
    assert thing == Thing(3, (Part("a.bin", 4),), sums={"loss": 2.0})
    assert type(thing.sums["loss"]) is float


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"step": "3"}, "step is '3'"),
        ({"step": True}, "step is True"),
        ({"step": 3.0}, "step is 3.0"),
        ({"step": -1}, "step is -1"),
        ({"step": 10**15}, "step is"),
        ({"parts": {}}, "parts is {}"),
        ({"parts": [{"name": "a", "bytes": 1}, {"name": "..", "bytes": 1}]}, r"parts\[1\].name is '..'"),
        ({"parts": [[]]}, r"parts\[0\] is \[\], not an object"),
        ({"parts": [{"name": "a"}]}, r"parts\[0\] lacks 'bytes'"),
        ({"rate": "1"}, "rate is '1'"),
        ({"label": 5}, "label is 5"),
        ({"flag": 1}, "flag is 1"),
        ({"sums": {"loss": None}}, "sums.loss is None"),
        ({"either": 1.5}, "either is 1.5"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(change, where):
    with pytest.raises(ValueError, match=where):
        read({**GOOD, **change})


def test_a_field_without_a_default_has_to_be_there():
    with pytest.raises(ValueError, match="it lacks 'parts'"):
        read({"step": 3})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"{}{}",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"step": NaN}',
        b'{"step": 1e999}',
        b"9" * 5000,
    ],
)
def test_what_is_no_json_is_one_kind_of_error(body):
    with pytest.raises(ValueError, match=r"."):
        shapes.read(Thing, body)


def test_a_document_beyond_its_bound_is_not_read():
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        shapes.read(Thing, json.dumps({**GOOD, "more": "x" * 100}).encode(), 100)


def test_of_a_record_that_nothing_rests_on_the_fields_that_fit_are_kept():
    told = {**GOOD, "rate": "x", "label": 4, "flag": True, "other": [1]}
    assert shapes.kept(Thing, told) == {**GOOD, "flag": True, "other": [1]}


@pytest.mark.parametrize("filled", [b"[],", b'{"a":0},', b"[[],[]],"], ids=["lists", "objects", "nested"])
@pytest.mark.parametrize("reader", ["manifest", "checkpoint.json", "files.json", "tensors", "environment"])
def test_a_document_of_very_many_values_takes_no_memory_beyond_its_bytes(reader, filled):
    bomb = b'{"a":[' + filled * (12_000_000 // len(filled)) + b"0]}"
    environment_of = f"{environment.HEADER}\n# found: ".encode() + bomb + b"\n"
    readers = {
        "manifest": lambda: cp.parse_manifest(cp.manifest_name(1, bomb), bomb),
        "checkpoint.json": lambda: content.parse(bomb),
        "files.json": lambda: carried.parse(bomb),
        "tensors": lambda: safetensors_file.entries(len(bomb).to_bytes(8, "little") + bomb, 1 << 30),
        "environment": lambda: environment.Record.from_bytes(environment_of),
    }
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more than|longer than"):
            readers[reader]()
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
