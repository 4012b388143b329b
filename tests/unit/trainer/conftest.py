"""What the tests of the script's side share: a state through a real folder and back."""

import pytest

from supervisor.trainer import folder
from supervisor.trainer.folder import Draft
from supervisor.trainer.snapshot import HostBuffer, plan
from supervisor.trainer.state import State


class Holder:
    """The smallest thing that may be attached."""

    def __init__(self, state=None):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.fixture
def holder():
    return Holder


@pytest.fixture
def stage(tmp_path):
    """Stage attached objects, as the run does, and return the folder."""

    def staged(piece_bytes_max=256_000_000, name="step-000000005-1", mutate=lambda: None, **attached):
        captured = State(attached).captured()
        pieces, split = plan(captured.leaves, piece_bytes_max)
        buffer = HostBuffer()
        buffer.take(pieces)
        mutate()
        draft = Draft(5, 9, None, captured.objects, captured.rng, [{"step": 4, "loss": 0.5}], {"loss": 0.5}, {}, split)
        folder.write(tmp_path, name, draft, pieces, buffer.chunks)
        return tmp_path / name

    return staged


@pytest.fixture
def round_trip(stage, holder):
    """Return a state as a checkpoint gives it back to an object that does not place tensors itself."""

    def back(state, **options):
        path = stage(thing=holder(state), **options)
        fresh = holder()
        fresh.state_dict = lambda: fresh.state
        State({"thing": fresh}).restore(folder.open_folder(path))
        return fresh.state

    return back
