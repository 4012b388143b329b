"""Tensors come back with their dtype, shape, strides and bits, and plain safetensors reads the same from the files."""

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from supervisor.trainer.folder import DamagedError, read  # noqa: E402
from supervisor.trainer.frameworks.torch import Torch  # noqa: E402
from supervisor.trainer.layout import plan  # noqa: E402
from supervisor.trainer.refused import RefusedError  # noqa: E402
from supervisor.trainer.snapshot import Snapshot, direct_chunks  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402
from supervisor.trainer.tree import Capture, value_of_bytes  # noqa: E402

pytestmark = pytest.mark.torch

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
]  # fmt: skip


def same(left, right):
    assert (left.dtype, left.shape, left.stride()) == (right.dtype, right.shape, right.stride())
    assert (
        left.contiguous().view(-1).view(torch.uint8).tolist() == right.contiguous().view(-1).view(torch.uint8).tolist()
    )


def random_bits(dtype, *shape):
    raw = torch.randint(0, 256, (torch.empty(shape, dtype=dtype).nbytes,), dtype=torch.uint8)
    return (raw % 2 if dtype == torch.bool else raw).view(dtype).view(shape)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(round_trip, name):
    dtype = getattr(torch, name)
    state = {
        "matrix": random_bits(dtype, 3, 5),
        "scalar": random_bits(dtype, 1)[0],
        "nothing": torch.empty(0, 4, dtype=dtype),
    }
    back = round_trip(state)
    for key in ("matrix", "scalar"):
        same(back[key], state[key])
    assert (back["nothing"].shape, back["nothing"].dtype) == ((0, 4), dtype)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("limit", [64, 256_000_000])
def test_a_save_without_room_for_a_copy_writes_the_same_bytes(name, limit):
    capture = Capture([Torch()])
    capture.node(random_bits(getattr(torch, name), 4, 6, 5).transpose(0, 2), "x")
    layout, values = plan(capture.leaves, piece_bytes_max=limit), list(capture.values.values())
    snapshot = Snapshot(layout, capture.leaves, values)
    snapshot.take(values)
    for piece in layout.pieces:
        assert b"".join(direct_chunks(piece, capture.leaves, values)) == snapshot.bytes_of(piece)[: piece.bytes]


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    order=st.randoms(use_true_random=False),
    step=st.integers(1, 3),
    expand=st.booleans(),
)
@settings(deadline=None)
def test_strides_come_back(shape, order, step, expand):
    dims = list(range(len(shape)))
    order.shuffle(dims)
    tensor = torch.randn([size * step for size in shape]).permute(dims)[tuple(slice(None, None, step) for _ in shape)]
    if expand:
        tensor = tensor.unsqueeze(0).expand(3, *tensor.shape)
    back = in_memory(tensor)
    assert (back.shape, back.stride()) == (tensor.shape, tensor.stride())
    assert torch.equal(back, tensor)


def in_memory(tensor):
    node, leaf = Torch().keep(tensor, "it")
    kept = bytearray(leaf.bytes)
    Torch().read(tensor, 0, memoryview(kept))
    return value_of_bytes(node, kept)


def test_channels_last_comes_back_as_channels_last(round_trip):
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    back = round_trip([tensor])[0]
    same(back, tensor)
    assert back.is_contiguous(memory_format=torch.channels_last)


def test_tied_tensors_are_stored_once_and_are_one_tensor_again(round_trip, stage, holder):
    weight = torch.randn(4, 4)
    back = round_trip({"a": weight, "b": weight, "rows": weight[:2]})
    assert back["a"] is back["b"]
    assert torch.equal(back["rows"], weight[:2])
    path = stage(name="step-000000006-1", thing=holder({"a": weight, "b": weight}))
    assert [name for name in load_file(path / "state-00000.safetensors") if name.startswith("thing")] == ["thing.a"]


def test_other_values_of_torch_come_back(round_trip):
    state = [torch.Size([2, 3]), torch.float16, torch.device("cuda:1"), torch.nn.Parameter(torch.ones(2)), None]
    back = round_trip(state)
    assert back[:3] == state[:3]
    assert [type(value) for value in back] == [type(value) for value in state]
    assert back[3].requires_grad


def test_plain_safetensors_reads_the_same(stage):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).to(torch.float64)
    path = stage(model=model)
    read_back = load_file(path / "state-00000.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(read_back[f"model.{name}"], tensor)
        assert torch.equal(read(path)["model"][name], tensor)


def test_the_state_may_change_as_soon_as_it_is_copied(stage):
    model = torch.nn.Linear(300, 300)
    wanted = model.weight.detach().clone()

    def mutate():
        with torch.no_grad():
            model.weight.zero_()

    assert torch.equal(read(stage(model=model, mutate=mutate))["model"]["weight"], wanted)


class Subclass(torch.Tensor):
    """As libraries of 8-bit optimizers have them."""


def test_a_hint_names_to_local_only_where_there_is_one(holder):
    with pytest.raises(RefusedError) as refused:
        State({"thing": holder([torch.ones(2).as_subclass(Subclass)])}).captured()
    assert "to_local" not in refused.value.hint
    assert "plain tensors" in refused.value.hint


def test_a_framework_that_cannot_read_a_value_refuses_it_by_name(holder, monkeypatch):
    from supervisor.trainer.frameworks.torch import Torch

    def fails(*_given):
        raise RuntimeError("no storage\nand more")

    monkeypatch.setattr(Torch, "_keep_tensor", fails)
    with pytest.raises(RefusedError, match=r"^thing.0: .*torch says RuntimeError: no storage$"):
        State({"thing": holder([torch.ones(2)])}).captured()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.eye(3).to_sparse(), "a sparse tensor"),
        (lambda: torch.empty(3, device="meta"), "a meta tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "a quantized tensor"),
        (lambda: torch.nn.LazyLinear(4).weight, "an UninitializedParameter has no shape yet"),
        (lambda: torch.nn.BatchNorm1d(4).running_mean.as_subclass(Subclass), "a Subclass cannot be kept"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "a nested tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged), "a NestedTensor"),
        (lambda: torch.arange(6.0).as_strided((3, 3), (1, 1)), "overlaps itself"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch warns of quantized and nested tensors
def test_a_tensor_that_would_not_come_back_is_refused(holder, make, words):
    with pytest.raises(RefusedError, match=f"^thing.0: .*{words}"):
        State({"thing": holder([make()])}).captured()


@pytest.mark.parametrize("name", ["state-00000.safetensors", "state.json", "checkpoint.json", "log.jsonl"])
@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "flipped"])
def test_a_damaged_file_is_noticed_and_named(stage, name, damage):
    path = stage(model=torch.nn.Linear(3, 3))
    content = (path / name).read_bytes()
    if damage == "missing":
        (path / name).unlink()
    elif damage == "cut":
        (path / name).write_bytes(content[:-1])
    elif damage == "longer" and name != "checkpoint.json":
        (path / name).write_bytes(content + b" ")
    elif name == "checkpoint.json":
        (path / name).write_bytes(content.replace(b'"step": 5', b'"step": 4'))
    else:
        (path / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DamagedError, match="is damaged"):
        read(path)
