"""The forged store of the attacks."""

from __future__ import annotations

import pytest

from tests.trust.forged import Forged


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """A store that an attacker can write to, and a working folder of the user's own beside it."""
    monkeypatch.setenv("SUPERVISOR_RUN_LOCAL", str(tmp_path / "local"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Forged(tmp_path)
