"""Where the bytes of a state go: every leaf once, aligned, in files within the limit that plain safetensors opens."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from supervisor.core import safetensors_file
from supervisor.trainer.buffer import PAGE_BYTES
from supervisor.trainer.frameworks.plain import Plain
from supervisor.trainer.layout import PIECE_BYTES_MAX, TWO_PIECES_FROM_BYTES, plan
from supervisor.trainer.leaf import Leaf
from supervisor.trainer.snapshot import Snapshot, direct_chunks

CODES = {1: "U8", 2: "I16", 4: "F32", 8: "F64"}


def leaf(items, item_bytes):
    return Leaf(CODES[item_bytes], (items,), item_bytes, items * item_bytes, None, Plain())


leaves = st.dictionaries(
    st.text("abc~part0123.", min_size=1, max_size=8),
    st.builds(leaf, st.sampled_from([0, 1, 2, 3, 10, 100, 1000]), st.sampled_from([1, 2, 4, 8])),
    max_size=12,
)
limits = st.sampled_from([8, 16, 100, 1000, 4096, 5000, PIECE_BYTES_MAX])


@st.composite
def states(draw):
    found = draw(leaves)
    return found, {name for name in found if draw(st.booleans())}


@given(states(), limits)
@settings(deadline=None, max_examples=300)
def test_every_byte_of_every_leaf_has_one_place(state, limit):
    found, still = state
    layout = plan(found, still, piece_bytes_max=limit)
    places = {}
    for piece in layout.pieces:
        end = 0
        for part in piece.parts:
            assert part.begin == end, "no gap and no overlap within a file"
            end += part.bytes
            places.setdefault(part.leaf, []).append((part.first, part.bytes))
            assert part.number == list(found).index(part.leaf)
        assert piece.bytes == len(piece.header) + end
    assert places.keys() == found.keys()
    for name, parts in places.items():
        assert [first for first, _ in parts] == [sum(size for _, size in parts[:n]) for n in range(len(parts))]
        assert sum(size for _, size in parts) == found[name].bytes
        assert (name in layout.split) == (len(parts) > 1)


@given(states(), limits)
@settings(deadline=None, max_examples=300)
def test_pieces_are_within_the_limit_and_share_no_page(state, limit):
    found, still = state
    layout = plan(found, still, piece_bytes_max=limit)
    end = 0
    for piece in layout.pieces:
        assert sum(part.bytes for part in piece.parts) <= limit
        assert piece.at == end
        assert piece.at % PAGE_BYTES == 0
        assert piece.at + piece.bytes <= piece.end
        end = piece.end
    assert layout.bytes == end
    assert len({piece.name for piece in layout.pieces}) == len(layout.pieces)


@given(states(), limits)
@settings(deadline=None)
def test_every_number_is_aligned_to_its_own_size_in_memory_and_in_the_file(state, limit):
    found, still = state
    for piece in plan(found, still, piece_bytes_max=limit).pieces:
        assert len(piece.header) % safetensors_file.ALIGN_BYTES == 0
        for part in piece.parts:
            item = found[part.leaf].item_bytes
            assert (piece.at + len(piece.header) + part.begin) % item == 0
            assert part.bytes % item == part.first % item == 0


@given(states(), limits)
@settings(deadline=None)
def test_what_is_still_shares_no_file_with_what_changes(state, limit):
    found, still = state
    for piece in plan(found, still, piece_bytes_max=limit).pieces:
        assert {part.leaf in still for part in piece.parts} == {piece.still}


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60))
def test_pieces_are_of_about_equal_size(sizes):
    limit = 4000
    found = {f"t{number}": leaf(size, 1) for number, size in enumerate(sizes)}
    pieces = plan(found, piece_bytes_max=limit).pieces
    filled = [sum(part.bytes for part in piece.parts) for piece in pieces]
    fewest = math.ceil(sum(sizes) / limit)
    assert fewest <= len(pieces) <= 2 * fewest
    assert all(size >= sum(sizes) / fewest - max(sizes) for size in filled[:-1])


def test_a_state_that_two_threads_verify_lies_in_two_files():
    half = TWO_PIECES_FROM_BYTES // 4
    pieces = plan({f"t{number}": leaf(half, 1) for number in range(4)}).pieces
    assert [sum(part.bytes for part in piece.parts) for piece in pieces] == [2 * half, 2 * half]


def test_a_thousand_tensors_without_a_byte_share_a_file():
    assert len(plan({f"t{number}": leaf(0, 4) for number in range(1000)}).pieces) == 1


def test_nothing_to_lay_out_is_no_piece_and_no_byte():
    layout = plan({})
    assert (layout.pieces, layout.split, layout.bytes) == ((), {}, 0)
    snapshot = Snapshot(layout, {}, [])
    assert snapshot.take([]).wait()


@given(states(), limits, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_plain_safetensors_opens_every_file_and_finds_every_byte(tmp_path_factory, state, limit, chance):
    found, still = state
    values = [bytearray(chance.randbytes(each.bytes)) for each in found.values()]
    layout = plan(found, still, piece_bytes_max=limit)
    snapshot = Snapshot(layout, found, values)
    assert snapshot.take(values).wait()
    folder, tensors = tmp_path_factory.mktemp("files"), {}
    for piece in layout.pieces:
        content = bytes(snapshot.bytes_of(piece)[: piece.bytes])
        assert content == b"".join(direct_chunks(piece, found, values))
        (folder / piece.name).write_bytes(content)
        tensors |= load_file(folder / piece.name)
    for (name, each), value in zip(found.items(), values, strict=True):
        parts = layout.split.get(name, [name])
        assert b"".join(tensors.pop(part).tobytes() for part in parts) == value
        assert name in layout.split or each.dtype in str(CODES.values())
    assert tensors == {}


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_header_is_whole_pages_whatever_the_names(names):
    for length in range(0, 5000, 501):
        entries = [safetensors_file.Entry(name * length or name, "U8", (0,), 0, 0) for name in names]
        assert len(safetensors_file.header(entries)) % PAGE_BYTES == 0
