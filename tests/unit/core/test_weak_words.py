"""Messages that a newcomer read twice: each says what happens next, or what to do."""

from __future__ import annotations

import pytest

from supervisor.core.recovery import Cause, Death
from supervisor.core.running import _hint


@pytest.mark.parametrize("name", ["torch", "timm.models"])
def test_a_missing_package_is_answered_with_where_to_name_it(name: str) -> None:
    hint = _hint(
        Death(Cause.SETUP, f"ModuleNotFoundError: No module named '{name}' (train.py:1); a restart would not help")
    )
    assert "requirements.txt beside the script, or in its PEP 723 block" in hint


def test_another_error_of_the_setup_is_to_be_corrected() -> None:
    assert "requirements.txt" not in _hint(Death(Cause.SETUP, "the script's arguments are wrong"))
