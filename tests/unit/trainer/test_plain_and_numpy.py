"""Values of plain Python and NumPy come back as they were, from files that plain safetensors opens."""

import array
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from supervisor.trainer import frameworks
from supervisor.trainer.frameworks.numpy import NumPy
from supervisor.trainer.refused import RefusedError
from supervisor.trainer.tree import Capture, rebuild, value_of_bytes


def in_memory(value):
    """Through nodes and leaves, without files."""
    capture = Capture(frameworks.loaded())
    node = capture.node(value, "it")
    kept = {}
    for name, leaf in capture.leaves.items():
        kept[name] = bytearray(leaf.bytes)
        leaf.framework.read(capture.values[name], 0, memoryview(kept[name]))
    return rebuild(node, lambda found: value_of_bytes(found, kept[found["leaf"]]))


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_arrays_of_every_number_type_come_back(round_trip, code):
    numbers = array.array(code, [1, 2, 3])
    back = round_trip({"numbers": numbers, "none": array.array(code)})
    assert back == {"numbers": numbers, "none": array.array(code)}
    assert back["numbers"].typecode == code


def test_large_bytes_go_beside_the_tensors_and_small_ones_stay_readable(stage, round_trip, holder):
    state = {"large": random.Random(1).randbytes(5000), "small": b"seen", "changing": bytearray(b"abc"), "empty": b""}
    back = round_trip(state)
    assert back == state
    assert type(back["changing"]) is bytearray
    path = stage(name="step-000000006-1", thing=holder(state))
    assert load_file(path / "state-00000.safetensors")["thing.large"].tobytes() == state["large"]


@pytest.mark.parametrize("readonly", [True, False])
def test_views_come_back_with_format_shape_and_writability(round_trip, readonly):
    content = array.array("d", range(6)).tobytes()
    view = memoryview(content if readonly else bytearray(content)).cast("d", (2, 3))
    back = round_trip([view])[0]
    assert (back.tolist(), back.format, back.shape, back.readonly) == (view.tolist(), "d", (2, 3), readonly)


def test_one_object_held_twice_is_stored_once_and_is_one_object_again(round_trip, stage, holder):
    weights = array.array("d", range(1000))
    back = round_trip({"tied": [weights, weights], "equal": array.array("d", range(1000))})
    assert back["tied"][0] is back["tied"][1]
    assert back["tied"][0] is not back["equal"]
    path = stage(name="step-000000006-1", thing=holder({"tied": [weights, weights]}))
    assert [name for name in load_file(path / "state-00000.safetensors") if name.startswith("thing")] == [
        "thing.tied.0"
    ]


def test_keys_that_give_the_same_path_do_not_overwrite_each_other(round_trip):
    state = {"a.b": bytearray(b"one"), "a": {"b": bytearray(b"two"), "b~2": bytearray(b"three")}}
    assert round_trip(state) == state


def test_a_tensor_larger_than_a_piece_is_cut_and_joined_again(round_trip, stage, holder):
    state = {"large": array.array("d", range(1000)), "small": array.array("b", [1, 2, 3])}
    assert round_trip(state, piece_bytes_max=1000) == state
    path = stage(name="step-000000006-1", piece_bytes_max=1000, thing=holder(state))
    pieces = sorted(path.glob("*.safetensors"))
    assert len(pieces) > 8
    loaded = {name: tensor for piece in pieces for name, tensor in load_file(piece).items() if name.startswith("thing")}
    assert sum(tensor.nbytes for tensor in loaded.values()) == 8003


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
def test_numpy_arrays_of_every_dtype_come_back_bit_for_bit(value):
    back = in_memory(value)
    assert (back.dtype, back.shape, back.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert back.flags.writeable


@pytest.mark.parametrize(
    "value", [np.float64(0.1), np.float32(-0.0), np.int8(-5), np.bool_(1), np.datetime64("2024-02-03"), np.str_("字")]
)
def test_numpy_scalars_keep_their_type(value):
    back = in_memory([value])[0]
    assert type(back) is type(value)
    assert back.tobytes() == value.tobytes()


def test_numpy_arrays_keep_their_order_and_slices_their_values():
    fortran = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert in_memory(fortran).flags.f_contiguous
    sliced = np.arange(20)[::3]
    assert in_memory(sliced).tolist() == sliced.tolist()


@pytest.mark.parametrize("value", [np.array([object()]), np.zeros(2, dtype=[("x", "f4")])])
def test_numpy_values_without_exact_bytes_are_refused(value):
    with pytest.raises(RefusedError, match=r"thing.array: numpy values of dtype"):
        Capture(frameworks.loaded()).node({"array": value}, "thing")


def test_numpys_generators_may_be_attached_and_go_on_where_they_were():
    for generator in (np.random.default_rng(3), np.random.RandomState(3)):
        get, put = NumPy().access(generator)
        kept = in_memory(get())
        wanted = generator.random(5).tolist()
        put(kept)
        assert generator.random(5).tolist() == wanted
