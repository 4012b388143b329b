"""Digests name how they were made, come out the same however the bytes are cut, and are refused where nobody can make them."""

from __future__ import annotations

import hashlib
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.digest import KNOWN, SHA256, XXH3, Digest, algorithm_of, digest_of, not_known, preferred
from supervisor.core.errors import UserError


def test_they_are_what_other_programs_make_of_the_same_bytes():
    assert digest_of([b"abc"], SHA256) == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert digest_of([], XXH3) == "xxh3-128:99aa06d3014798d86001c324468d497f"  # from the specification of XXH3


@pytest.mark.parametrize("algorithm", sorted(KNOWN))
@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_they_do_not_depend_on_how_the_bytes_are_cut(algorithm, body, cuts):
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts = [memoryview(body)[begin:end] for begin, end in itertools.pairwise(edges)]
    assert digest_of(parts, algorithm) == digest_of([body], algorithm)


@pytest.mark.parametrize("algorithm", sorted(KNOWN))
@given(body=st.binary(min_size=1, max_size=100), at=st.integers(0, 799))
def test_a_flipped_bit_changes_them(algorithm, body, at):
    flipped = bytearray(body)
    flipped[at // 8 % len(body)] ^= 1 << at % 8
    assert digest_of([flipped], algorithm) != digest_of([body], algorithm)


@pytest.mark.parametrize("algorithm", sorted(KNOWN))
def test_they_name_their_algorithm(algorithm):
    assert algorithm_of(digest_of([b"x"], algorithm)) == algorithm


def test_what_nobody_knows_is_told_by_its_name():
    assert not_known(["sha256:00", "xxh3-128:00"]) == ""
    assert not_known(["sha256:00", "sha3:00"]) == "sha3"
    assert not_known(["no digest at all"]) == ""
    with pytest.raises(UserError, match="does not know") as refused:
        Digest("sha3")
    assert "update" in refused.value.hint


def test_without_the_package_new_digests_need_none_and_old_ones_ask_for_it(monkeypatch):
    assert preferred() == XXH3
    monkeypatch.setitem(sys.modules, "xxhash", None)
    assert preferred() == SHA256
    with pytest.raises(UserError) as refused:
        Digest(XXH3)
    assert "xxhash" in refused.value.hint
