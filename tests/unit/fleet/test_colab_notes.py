"""Our notes on a Colab machine: whoever asks finds one that was made after its caller had gone."""

from __future__ import annotations

import json

import pytest

from supervisor.core.provisioning import Machine
from supervisor.fleet.provisioners.colab_notes import Notes, all_notes, ours

RECORD = {"name": "toy-1", "token": "t", "url": "http://u", "endpoint": "gpu-t4-s-1"}


@pytest.mark.parametrize("left", ["after the machine was made", "before it was made"])
def test_a_machine_that_was_made_after_its_caller_left_is_known_to_be_ours(tmp_path, left):
    notes = Notes(tmp_path, "toy-1")
    notes.folder.mkdir()
    if left == "after the machine was made":
        notes.session.write_text(json.dumps({"toy-1": RECORD}))
    else:
        notes.session.write_text("{")
    known = [each.endpoint for each in all_notes(tmp_path)]
    found = ours(tmp_path, Machine("", "gpu-t4-s-1"))
    if left == "after the machine was made":
        assert known == ["gpu-t4-s-1"]
        assert found is not None
        assert found.name == "toy-1"
    else:
        assert known == [""]
        assert found is None
