"""Caffe's weight files: written here byte by byte, read by our reader."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperlpr_example.caffemodel import read_caffemodel


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field_number, value):
    return varint(field_number << 3) + varint(value)


def shape(*sizes):
    return field(7, field(1, b"".join(map(varint, sizes))))


def halves(*values):
    return number(10, 2) + field(12, np.array(values, "<f2").tobytes())


def layer(name, *blobs):
    return field(100, field(1, name.encode()) + b"".join(field(7, blob) for blob in blobs))


def test_half_precision_blobs_come_back_in_their_shape():
    content = field(1, b"net") + layer("conv", shape(2, 3) + halves(1, 2, 3, 4, 5, 6.5), shape(2) + halves(-1, 0.5))
    weights, bias = read_caffemodel(content)["conv"]
    assert weights.dtype == np.float32
    assert weights.tolist() == [[1, 2, 3], [4, 5, 6.5]]
    assert bias.tolist() == [-1, 0.5]


def test_plain_float_blobs_and_the_old_way_to_give_a_shape_are_read():
    old_shape = number(1, 1) + number(2, 1) + number(3, 2) + number(4, 2)
    content = layer("ip", old_shape + field(5, struct.pack("<4f", 1, 2, 3, 4)))
    assert read_caffemodel(content)["ip"][0].tolist() == [[[[1, 2], [3, 4]]]]


def test_layers_without_blobs_and_unknown_fields_are_passed_over():
    fixed = varint(3 << 3 | 5) + b"1234" + varint(4 << 3 | 1) + b"12345678"
    assert list(read_caffemodel(fixed + layer("data") + layer("conv", shape(1) + halves(1)))) == ["conv"]


def test_another_raw_type_is_refused():
    with pytest.raises(ValueError, match="not 16-bit float"):
        read_caffemodel(layer("conv", shape(1) + number(10, 3) + field(12, b"12")))


@given(st.integers(1, 40))
def test_a_file_cut_short_is_never_read_as_whole(cut):
    content = layer("conv", shape(2, 3) + halves(1, 2, 3, 4, 5, 6))
    with pytest.raises(ValueError, match="cut short"):
        read_caffemodel(content[: -min(cut, len(content) - 1)])
