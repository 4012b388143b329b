"""One machine at a time for an account: a second launch is sent away, whatever its run; where nothing costs, it is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor import launching
from supervisor.core.errors import FENCED, UserError
from supervisor.core.provisioning import FleetTraits


def provisioner(*, paid: bool):
    return SimpleNamespace(name="colab", traits=FleetTraits("Colab", paid=paid))


def test_a_second_launch_of_the_same_account_is_sent_away_and_a_later_one_is_not(tmp_path):
    for name in ("one", "another"):
        with launching._account(provisioner(paid=True), tmp_path, name):
            with pytest.raises(UserError, match=f"uses this Colab account: run {name}") as refused:
                launching._account(provisioner(paid=True), tmp_path, "two").__enter__()
            assert refused.value.exit_code == FENCED
            assert "wait for its end, or stop it" in refused.value.hint


def test_machines_that_cost_nothing_may_serve_several_runs(tmp_path):
    with (
        launching._account(provisioner(paid=False), tmp_path, "one"),
        launching._account(provisioner(paid=False), tmp_path, "two"),
    ):
        assert list(tmp_path.iterdir()) == []
