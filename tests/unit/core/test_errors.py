"""Every error a person can cause has two lines and an exit code."""

from __future__ import annotations

import pytest

from supervisor.core.errors import FAILED_PRECHECKS, FAILED_SETUP, USAGE, SetupError, UsageError, UserError


@pytest.mark.parametrize(
    ("kind", "code"), [(UserError, FAILED_PRECHECKS), (UsageError, USAGE), (SetupError, FAILED_SETUP)]
)
def test_an_error_says_what_happened_what_to_do_and_how_to_exit(kind, code):
    error = kind("the store is full", "make room")
    assert (error.what, error.hint, error.exit_code, str(error)) == (
        "the store is full",
        "make room",
        code,
        "the store is full",
    )
