"""What the tests of the script's side share: a state through a real folder and back."""

import pytest

from supervisor.trainer import folder
from supervisor.trainer.folder import Draft
from supervisor.trainer.layout import plan
from supervisor.trainer.snapshot import Snapshot
from supervisor.trainer.state import State
from supervisor.trainer.writer import NewFile


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
        layout = plan(captured.leaves, piece_bytes_max=piece_bytes_max)
        snapshot = Snapshot(layout, captured.leaves, captured.values)
        assert snapshot.take(captured.values).wait()
        mutate()
        rows = [{"step": 4, "loss": 0.5}]
        draft = Draft(
            5, 9, None, captured.text, captured.generators, rows, {"loss": 0.5}, {}, layout.split, captured.beside
        )
        files = [NewFile(each.name, pages=snapshot.bytes_of(each), bytes=each.bytes) for each in layout.pieces]
        folder.write(tmp_path, name, draft, files)
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
