"""What is saved is the moment of the boundary, whatever happens to the state as soon as the loop goes on."""

import threading
from array import array

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supervisor.trainer import snapshot as module  # noqa: E402
from supervisor.trainer.folder import Draft, read  # noqa: E402
from supervisor.trainer.frameworks import torch_copies, torch_memory  # noqa: E402
from supervisor.trainer.layout import plan  # noqa: E402
from supervisor.trainer.saver import Saver  # noqa: E402
from supervisor.trainer.snapshot import Copying, Snapshot  # noqa: E402
from supervisor.trainer.state import State  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROUNDS = 8


class Job:
    """Everything that a state can hold, of which every byte can be overwritten."""

    def __init__(self, width):
        self.model = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 3)
        ).to(memory_format=torch.contiguous_format)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.numbers = np.zeros(width * 3)
        self.fortran = np.asfortranarray(np.zeros((width, 3)))
        self.bytes = bytearray(width * 5)
        self.array = array("d", [0.0]) * width
        self.strided = torch.zeros(width, 6).t()
        self.complex = torch.zeros(width, dtype=torch.complex64)
        self.count = 0
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def state_dict(self):
        held = ("numbers", "fortran", "bytes", "array", "strided", "count")
        return {name: getattr(self, name) for name in held} | {"conjugate": self.complex.conj()}

    def load_state_dict(self, state):
        raise NotImplementedError

    def attached(self):
        return {"model": self.model, "optimizer": self.optimizer, "job": self}

    def overwrite(self, number):
        self.go_on(number)
        self.update(number)

    def update(self, number):
        """What an optimizer's step may change."""
        with torch.no_grad():
            for tensor in self.updated():
                tensor.fill_(number)

    def go_on(self, number):
        """What may change at any moment: buffers, and what is no tensor of a module."""
        self.count = number
        late = {tensor.data_ptr() for tensor in self.updated()}
        with torch.no_grad():
            for tensor in self.tensors():
                if tensor.data_ptr() not in late:
                    tensor.fill_(number)
        self.numbers.fill(number)
        self.fortran.fill(number)
        self.bytes[:] = bytes([number]) * len(self.bytes)
        self.array[:] = array("d", [number]) * len(self.array)

    def updated(self):
        yield from self.model.parameters()
        for state in self.optimizer.state.values():
            yield from state.values()

    def tensors(self):
        yield from self.model.state_dict().values()
        for state in self.optimizer.state.values():
            yield from state.values()
        yield from (self.strided, self.complex)


def assert_all_are(states, number):
    """Every number of the checkpoint is the one that was there at the boundary."""
    job = states["job"]
    assert job["count"] == number
    assert set(job["bytes"]) == {number}
    assert set(job["array"]) == {float(number)}
    assert (job["numbers"] == number).all()
    assert (job["fortran"] == number).all()
    tensors = [*states["model"].values(), job["strided"], job["conjugate"]]
    for state in states["optimizer"]["state"].values():
        tensors += state.values()
    assert len(tensors) > 18
    for tensor in tensors:
        assert (tensor == number).all()


@pytest.mark.parametrize("width", [4, 1300], ids=["small", "tens of megabytes"])
@pytest.mark.parametrize("limit", [None, 3_000_001], ids=["as it is", "in small pieces"])
def test_each_save_of_many_holds_the_moment_at_which_it_was_asked_for(tmp_path, monkeypatch, width, limit):
    if limit is not None:
        monkeypatch.setattr("supervisor.trainer.layout.plan.__kwdefaults__", {"piece_bytes_max": limit})
    said = []
    saver = Saver(tmp_path / "staging", 1, lambda: 0.0, said.append)
    job = Job(width)
    state = State(job.attached())
    for number in range(1, ROUNDS):
        job.overwrite(number)
        captured = state.captured()
        draft = Draft(number, None, None, captured.text, captured.generators, [], {}, {}, {})
        saver.begin(draft, captured, "due", 0.0)
        job.overwrite(200 + number)
        saver.wait()
        assert saver.staged_step == number, said
        (folder,) = (tmp_path / "staging").glob(f"step-{number:09d}-*")
        assert_all_are(read(folder), number)
    assert captured.structure <= 2, "the buffer was kept"


class Saving:
    """A saver and a job, saved round by round."""

    def __init__(self, staging, width):
        self.staging, self.said = staging, []
        self.saver = Saver(staging, 1, lambda: 0.0, self.said.append)
        self.job = Job(width)
        self.state = State(self.job.attached())

    def begin(self, number):
        captured = self.state.captured()
        draft = Draft(number, None, None, captured.text, captured.generators, [], {}, {}, {})
        self.saver.begin(draft, captured, "due", 0.0)

    def folders(self, number):
        return list(self.staging.glob(f"step-{number:09d}-*"))


@pytest.mark.parametrize("width", [4, 1300], ids=["small", "tens of megabytes"])
def test_a_copy_beside_forward_and_backward_holds_the_moment_of_the_boundary(tmp_path, width):
    run = Saving(tmp_path / "staging", width)
    for number in range(1, ROUNDS):
        run.saver.before_update()
        run.job.overwrite(number)
        run.begin(number)
        run.job.go_on(200)  # buffers change in the forward pass already
        run.saver.before_update()
        run.job.overwrite(201)
        run.saver.wait()
        assert run.saver.staged_step == number, run.said
        (folder,) = run.folders(number)
        assert_all_are(read(folder), number)


def on_the_helper():
    """Return True on the copying thread. `Copying._helper` is set only after that thread has started."""
    return threading.current_thread().name == "supervisor-copy"


def test_weights_that_change_although_nobody_was_told_are_noticed_and_the_next_saves_are_exact(tmp_path, monkeypatch):
    run = Saving(tmp_path / "staging", 4)
    go_on = threading.Event()
    real = Copying._copy

    def held(self):
        if on_the_helper():
            go_on.wait()
        real(self)

    run.saver.before_update()
    run.job.overwrite(1)
    with monkeypatch.context() as patch:
        patch.setattr(Copying, "_copy", held)
        run.begin(1)
        run.job.update(99)
        go_on.set()
        run.saver.wait()
    assert run.saver.staged_step is None
    assert "otherwise than by optimizer.step()" in run.said[-1].error
    for number in (2, 3):
        run.job.overwrite(number)
        run.begin(number)
        run.job.overwrite(99)
        run.saver.wait()
        (folder,) = run.folders(number)
        assert_all_are(read(folder), number)


def test_a_copy_that_fails_beside_the_loop_is_told_and_the_loop_goes_on(tmp_path, monkeypatch):
    run = Saving(tmp_path / "staging", 4)
    run.saver.before_update()
    run.begin(1)
    run.saver.before_update()
    run.saver.wait()
    real = torch._foreach_copy_
    with monkeypatch.context() as patch:
        patch.setattr(
            torch, "_foreach_copy_", lambda outs, ins: (_ for _ in ()).throw(RuntimeError("the device is gone"))
        )
        run.begin(2)
        run.saver.before_update()
        run.saver.before_update()
        run.saver.wait()
    assert torch._foreach_copy_ is real
    assert "the device is gone" in run.said[-1].error
    assert (run.saver.staged_step, run.folders(2)) == (1, [])
    run.job.overwrite(3)
    run.begin(3)
    run.saver.wait()
    assert_all_are(read(run.folders(3)[0]), 3)


@pytest.mark.parametrize("name", ["complex64", "complex128"])
@pytest.mark.parametrize("lazy", ["conj", "neg"])
def test_a_large_tensor_whose_memory_holds_other_bits_is_kept_by_value(stage, holder, name, lazy):
    large = torch.randn(torch_copies.BATCH_BYTES // 8 + 5, dtype=getattr(torch, name))
    value = large.conj() if lazy == "conj" else torch._neg_view(large)
    wanted = value.clone()
    back = read(stage(thing=holder([value])))["thing"][0]
    assert torch.equal(back, wanted)


def test_a_tensor_larger_than_a_batch_is_copied_by_several_threads_in_slices(monkeypatch):
    value = torch.arange(3 * torch_copies.BATCH_BYTES // 4 + 7, dtype=torch.int32)
    seen = set()
    captured = State({"thing": Holding({"x": value, "y": value.view(-1)[5:-3]})}).captured()
    layout = plan(captured.leaves, piece_bytes_max=10_000_003)
    taken = Snapshot(layout, captured.leaves, captured.values)
    real = Copying._copy

    def noting(self):
        seen.add(threading.current_thread().name)
        real(self)

    monkeypatch.setattr(Copying, "_copy", noting)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0, 1})
    assert taken.take(captured.values).wait()
    assert len(seen) == 2
    whole = {}
    for piece in layout.pieces:
        content = taken.bytes_of(piece)[len(piece.header) :]
        for part in piece.parts:
            whole.setdefault(part.leaf, bytearray()).extend(content[part.begin : part.begin + part.bytes])
    assert whole["thing.x"] == value.numpy().tobytes()
    assert whole["thing.y"] == value[5:-3].numpy().tobytes()


class Holding:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_nobody_writes_the_buffer_while_the_loop_still_copies_its_last_part():
    """The loop takes part in a copy that is under way; the writer's thread must wait for both."""
    started, go_on, order = threading.Event(), threading.Event(), []

    def slow(_values):
        started.set()
        go_on.wait()
        order.append("copied by the loop")

    copying = Copying([slow, lambda _values: order.append("copied by the helper")], [], [])
    loop = threading.Thread(target=copying.finish)
    loop.start()
    started.wait()
    copying.begin()
    copying._helper.join()
    writer = threading.Thread(target=lambda: order.append("written" if copying.wait() else "not exact"))
    writer.start()
    writer.join(0.3)  # because a writer that does not wait is through by then
    go_on.set()
    loop.join()
    writer.join()
    assert order == ["copied by the helper", "copied by the loop", "written"]


def test_what_goes_wrong_on_the_helping_thread_is_raised_where_the_copy_was_asked_for():
    def broken(_values):
        raise RuntimeError("the device is gone")

    copying = Copying([broken], [], [])
    copying.begin()
    with pytest.raises(RuntimeError, match="the device is gone"):
        copying.finish()
    with pytest.raises(RuntimeError, match="the device is gone"):
        copying.wait()


def test_two_threads_may_fill_parts_of_one_tensor_on_a_device_at_once(monkeypatch):
    """The parts of a tensor larger than a piece lie in several files, which are read at the same time."""

    class Stream:
        def record_event(self):
            return Event()

    class Event:
        def synchronize(self):
            pass

    class Nowhere:
        def __init__(self, _device):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_error):
            pass

    monkeypatch.setattr(torch.cuda, "device", Nowhere)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch_memory, "_pinned", lambda size: torch.zeros(size, dtype=torch.uint8))
    live = torch.zeros(100, dtype=torch.uint8)
    target = torch_memory._CudaTarget(live)
    rooms = {begin: target.room(begin, 10) for begin in (0, 50)}
    for begin in (50, 60, 70, 80, 90):
        room = rooms.pop(begin, None) or target.room(begin, 10)
        room[:] = bytes([begin]) * 10
        target.took(begin, 10)
    rooms[0][:] = bytes([1]) * 10
    target.took(0, 10)
    assert target.value()[:10].tolist() == [1] * 10
    assert live[50:].tolist() == [begin for begin in (50, 60, 70, 80, 90) for _ in range(10)]
