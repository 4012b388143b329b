"""A checkpoint that an earlier version of this program wrote is still a checkpoint."""

import hashlib
import json
from array import array

import pytest

from supervisor.core import content
from supervisor.trainer.folder import DamagedError, open_folder, read
from supervisor.trainer.state import State


@pytest.fixture
def version_1(tmp_path):
    """Write by hand what version 1 wrote: headers of 64-byte lines, sha256 digests, no seal."""
    folder = tmp_path / "step-000000007-1001"
    folder.mkdir()
    pieces = {
        "state-00000.safetensors": {"model.weights~part0": ("F64", array("d", [1.5, -0.0]).tobytes())},
        "state-00001.safetensors": {
            "model.weights~part1": ("F64", array("d", [3.5]).tobytes()),
            "data.seen": ("U8", b"abc"),
        },
    }
    files = {name: safetensors(tensors) for name, tensors in pieces.items()}
    objects = {
        "model": {"weights": {"!": "plain.array", "code": "d", "length": 3, "leaf": "model.weights"}, "epoch": 2},
        "data": {"seen": {"!": "plain.bytearray", "leaf": "data.seen"}, "pair": {"!": "tuple", "items": [1, None]}},
    }
    split = {"model.weights": ["model.weights~part0", "model.weights~part1"]}
    body = {"format": content.FORMAT, "version": 1, "objects": objects, "split": split}
    files["state.json"] = json.dumps(body).encode()
    state = [3, [*range(624), 624], None]
    plain = {"!": "tuple", "items": [state[0], {"!": "tuple", "items": state[1]}, None]}
    files["rng.json"] = json.dumps({"generators": {"plain": plain}, "bytes": {}}).encode()
    files["log.jsonl"] = b'{"step": 6, "loss": 0.5}\n'
    for name, each in files.items():
        (folder / name).write_bytes(each)
    seal = {
        "format": content.FORMAT, "version": 1, "step": 7, "total_steps": 9, "epoch_of_data": None,
        "metrics": {"loss": 0.5}, "made_by": {"python": "3.11.7", "framework": "python 3.11.7"},
        "files": [
            {"name": name, "bytes": len(each), "digest": f"sha256:{hashlib.sha256(each).hexdigest()}"}
            for name, each in files.items()
        ],
    }  # fmt: skip
    (folder / "checkpoint.json").write_text(json.dumps(seal, indent=1))
    return folder


def safetensors(tensors):
    header, at = {}, 0
    for name, (dtype, raw) in tensors.items():
        items = len(raw) // (8 if dtype == "F64" else 1)
        header[name] = {"dtype": dtype, "shape": [items], "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return len(text).to_bytes(8, "little") + text + b"".join(raw for _, raw in tensors.values())


def test_a_folder_of_version_1_is_read(version_1):
    states = read(version_1)
    assert states["model"] == {"weights": array("d", [1.5, -0.0, 3.5]), "epoch": 2}
    assert states["data"] == {"seen": bytearray(b"abc"), "pair": (1, None)}


def test_a_folder_of_version_1_is_put_back_with_its_random_generators(version_1, holder):
    import random

    model, data = holder(), holder()
    state = State({"model": model, "data": data})
    opened = open_folder(version_1)
    assert state.restore(opened) == []
    assert opened.step == 7
    assert model.state["weights"] == array("d", [1.5, -0.0, 3.5])
    assert state.put_back_rng() == []
    assert random.getstate() == (3, (*range(624), 624), None)


@pytest.mark.parametrize("name", ["state-00000.safetensors", "state-00001.safetensors", "state.json", "rng.json"])
def test_a_flipped_bit_in_a_folder_of_version_1_is_noticed(version_1, name):
    raw = bytearray((version_1 / name).read_bytes())
    for place in range(0, len(raw), 7):
        raw[place] ^= 4
        (version_1 / name).write_bytes(raw)
        with pytest.raises(DamagedError):
            read(version_1)
        raw[place] ^= 4
