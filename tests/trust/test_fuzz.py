"""Mutated records end in a value, a named error or damage. Longer: ``python -m benchmarks.fuzz --mutations 100000``."""

from __future__ import annotations

import pytest

from benchmarks import fuzz


@pytest.mark.parametrize("reader", fuzz.readers())
def test_no_mutation_of_a_record_ends_in_anything_else(reader):
    came, _, bad = fuzz.fuzz(reader, 150, seed=17)
    assert not bad, bad[0]
    assert sum(came.values()) == 150
