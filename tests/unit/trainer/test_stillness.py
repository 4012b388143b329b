"""Tensors that do not change get files of their own, which are the same file from save to save, and every save stays exact."""

import random
from array import array

import pytest

pytest.importorskip("xxhash")
from supervisor.trainer import stillness as module
from supervisor.trainer.folder import Draft, read
from supervisor.trainer.saver import Saver
from supervisor.trainer.state import State

LEAF = module.LEAF_BYTES_MIN
BACKBONE = ("a", "b", "c")


class Model:
    """Blocks of bytes, of which a schedule changes some."""

    def __init__(self, sizes):
        self.blocks = {name: bytearray(random.Random(name).randbytes(size)) for name, size in sizes.items()}

    def state_dict(self):
        return dict(self.blocks)

    def load_state_dict(self, state):
        self.blocks = state


class Saving:
    def __init__(self, staging, model):
        self.model, self.staging, self.step, self.said = model, staging, 0, []
        self.state = State({"model": model})
        self.saver = Saver(staging, 1, lambda: 0.0, self.said.append)

    def save(self):
        """Save, check that every byte is what it was, and return the checkpoint's pieces by name."""
        self.step += 1
        wanted = {name: bytes(block) for name, block in self.model.blocks.items()}
        captured = self.state.captured()
        draft = Draft(self.step, None, None, captured.text, captured.generators, [], {}, {}, {})
        self.saver.begin(draft, captured, "due", 0.0)
        changed = {name: bytes(block) for name, block in self.model.blocks.items()}
        for block in self.model.blocks.values():
            block[:] = b"\0" * len(block)  # at once, as the next step does
        self.saver.wait()
        for name, block in self.model.blocks.items():
            block[:] = changed[name]
        assert self.saver.staged_step == self.step, self.said
        (folder,) = self.staging.glob(f"step-{self.step:09d}-*")
        assert read(folder)["model"] == wanted
        return {path.name: path for path in folder.glob("*.safetensors")}

    def train(self, *names):
        for name in names:
            block = self.model.blocks[name]
            place = (self.step * 7919) % len(block)
            block[place] ^= 1 << self.step % 8


@pytest.fixture
def saving(tmp_path):
    def made(**sizes):
        return Saving(tmp_path / "staging", Model(sizes or dict.fromkeys("abcxyz", LEAF)))

    return made


def shared(one, other):
    """The files of two saves that are one and the same on the disk."""
    inodes = {path.stat().st_ino for path in one.values()}
    return {name for name, path in other.items() if path.stat().st_ino in inodes}


def test_a_frozen_backbone_gets_a_file_of_its_own_after_three_saves(saving):
    run = saving()
    saves = []
    for _ in range(6):
        run.train("x", "y", "z")
        saves.append(run.save())
    assert [len(pieces) for pieces in saves] == [1, 1, 1, 2, 2, 2]
    assert [shared(saves[n], saves[n + 1]) for n in range(5)] == [
        set(), set(), set(), {"state-00001.safetensors"}, {"state-00001.safetensors"},
    ]  # fmt: skip
    still = {pieces["state-00001.safetensors"].read_bytes() for pieces in saves[3:]}
    assert len(still) == 1


def test_what_is_unfrozen_moves_back_to_what_changes(saving):
    run = saving()
    for _ in range(5):
        run.train("x", "y", "z")
        run.save()
    assert run.saver._stillness.leaves == {"model.a", "model.b", "model.c"}
    run.train("b", "x")
    pieces = run.save()
    run.train("b", "x")
    pieces = run.save()
    assert run.saver._stillness.leaves == {"model.a", "model.c"}
    run.train("b", "x")
    after = run.save()
    assert shared(pieces, after) == {"state-00001.safetensors"}


def test_unfreezing_everything_ends_in_one_kind_of_file(saving):
    run = saving()
    for _ in range(5):
        run.train("x")
        run.save()
    for _ in range(3):
        run.train(*"abcxyz")
        pieces = run.save()
    assert run.saver._stillness.leaves == frozenset()
    assert len(pieces) == 1


def test_where_nothing_is_still_no_digests_are_spent_after_the_first_saves(saving, monkeypatch):
    run = saving()
    spent = []
    real = module.digest_of
    monkeypatch.setattr(module, "digest_of", lambda views, kind: (spent.append(run.step), real(views, kind))[1])
    for _ in range(10):
        run.train(*"abcxyz")
        run.save()
    assert set(spent) <= {1, 2}


def test_a_tensor_that_is_frozen_later_is_found_when_the_watch_begins_again(saving, monkeypatch):
    monkeypatch.setattr(module, "WATCH_AGAIN_SAVES", 5)
    run = saving()
    for _ in range(4):
        run.train(*"abcxyz")
        run.save()
    for _ in range(8):
        run.train("x", "y", "z")
        run.save()
    assert run.saver._stillness.leaves == {"model.a", "model.b", "model.c"}


def test_a_small_share_of_the_state_gets_no_file_of_its_own(saving):
    run = saving(a=LEAF, x=40 * LEAF)
    for _ in range(5):
        run.train("x")
        assert len(run.save()) == 1


def test_a_large_still_tensor_with_a_small_last_part_is_found_too(saving, monkeypatch):
    monkeypatch.setattr("supervisor.trainer.layout.plan.__kwdefaults__", {"piece_bytes_max": 2 * LEAF})
    run = saving(a=4 * LEAF + 100, x=LEAF)
    for _ in range(4):
        run.train("x")
        run.save()
    assert run.saver._stillness.leaves == {"model.a"}


def test_where_the_folder_of_the_save_before_is_gone_the_still_file_is_written_again(saving):
    run = saving()
    for _ in range(5):
        run.train("x", "y", "z")
        pieces = run.save()
    for path in pieces.values():
        path.unlink()
    assert "state-00001.safetensors" in run.save()


def test_without_the_fast_digest_nothing_is_watched(saving, monkeypatch):
    monkeypatch.setattr(module, "preferred", lambda: "sha256")
    run = saving()
    for _ in range(5):
        run.train("x")
        assert len(run.save()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_any_schedule_of_freezing_growing_and_failing_saves_the_exact_bytes(saving, monkeypatch, seed):
    monkeypatch.setattr(module, "WATCH_AGAIN_SAVES", 7)
    monkeypatch.setattr("supervisor.trainer.layout.plan.__kwdefaults__", {"piece_bytes_max": 3 * LEAF // 2})
    chance = random.Random(seed)
    run = saving(**{name: chance.randrange(1, 3 * LEAF) for name in "abcdefxyz"})
    linked, pieces = 0, {}
    active = set("xyz")
    for _ in range(40):
        if chance.random() < 0.2:
            active = {name for name in run.model.blocks if chance.random() < 0.4}
        if chance.random() < 0.08:
            run.model.blocks[chance.choice("abcdefxyz")] = bytearray(chance.randbytes(chance.randrange(1, 3 * LEAF)))
        if chance.random() < 0.05:
            run.model.blocks = dict(reversed(run.model.blocks.items()))
        if chance.random() < 0.05:
            run.model.blocks[f"new{run.step}"] = bytearray(chance.randbytes(LEAF))
        if chance.random() < 0.05 and len(run.model.blocks) > 3:
            del run.model.blocks[chance.choice(sorted(run.model.blocks))]
        run.train(*sorted(active & run.model.blocks.keys()))
        before, pieces = pieces, run.save()
        linked += len(shared(before, pieces))
    assert linked, "the schedule has met what this is about"


def test_an_array_that_is_restored_is_not_taken_for_the_frozen_one(saving):
    """The bytes decide, not the name: the same leaf with other bytes is written, and comes back as it was."""
    run = saving()
    for _ in range(4):
        run.train("x", "y", "z")
        before = run.save()
    run.model.blocks["a"] = bytearray(array("d", [1.0]) * (LEAF // 8))
    after = run.save()
    assert shared(before, after) == set()
