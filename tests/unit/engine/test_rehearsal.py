"""What a rehearsal may say: nothing, where nothing was resumed."""

from types import SimpleNamespace

import pytest

from supervisor.core.errors import UserError
from supervisor.engine import rehearsal


def test_a_run_that_went_on_from_nothing_gets_no_verdict(monkeypatch, tmp_path):
    acts = rehearsal.Rehearsal(SimpleNamespace(folder=tmp_path), lambda folder: folder, None, print)
    for resumed in ((), (20,)):
        found = SimpleNamespace(exact=True, resumed=resumed)
        monkeypatch.setattr(rehearsal, "compare", lambda *_, found=found: found)
        if resumed:
            assert acts.compared() is found
        else:
            with pytest.raises(UserError, match="shows nothing"):
                acts.compared()
