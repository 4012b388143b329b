"""Mutated records end in a value, a named error or damage. Longer: ``python -m benchmarks.fuzz --mutations 100000``."""

from __future__ import annotations

import pytest

from benchmarks import fuzz
from benchmarks.fuzzed import readers


@pytest.mark.parametrize("reader", readers())
def test_no_mutation_of_a_record_ends_in_anything_else(reader):
    came = fuzz.fuzz(reader, 120, seed=17)
    assert not came.bad, came.bad[0]
    assert came.ends.total() == 120
    assert came.most_bytes <= fuzz.ALLOCATION_BYTES_MAX
