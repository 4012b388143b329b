"""Every platform of the table keeps the same contract; the first that recognises the machine is it."""

from __future__ import annotations

from importlib import import_module

import pytest

from supervisor.core.errors import UserError
from supervisor.core.instant import Instant
from supervisor.platforms import TABLE, colab
from supervisor.wiring import find_platform

NOW = Instant(mono_s=5000.0, wall_s=1.7e9)
ENVIRONMENTS = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab_20260818-060114_RC00"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"},
    "local": {},
}


@pytest.mark.parametrize("name", TABLE)
def test_a_platform_recognises_its_own_machine_and_describes_it(name: str) -> None:
    module = import_module(TABLE[name])
    assert module.is_here(ENVIRONMENTS[name])
    described = module.describe(ENVIRONMENTS[name], NOW)
    assert described.name == name
    assert described.store
    assert described.prior_life_s > 0
    assert described.lifetime is None or not described.lifetime.hard


@pytest.mark.parametrize("name", TABLE)
def test_the_first_that_recognises_the_machine_is_the_platform(name: str) -> None:
    assert find_platform(ENVIRONMENTS[name], NOW).name == name


def test_kaggle_is_not_taken_for_colab_whose_image_it_shares() -> None:
    assert find_platform({**ENVIRONMENTS["colab"], **ENVIRONMENTS["kaggle"]}, NOW).name == "kaggle"


def test_colab_counts_the_age_of_the_machine_not_of_the_process() -> None:
    assert colab.describe({}, NOW).age_s == NOW.mono_s


def test_a_place_on_drive_is_refused_while_drive_is_not_mounted() -> None:
    with pytest.raises(UserError) as refused:
        colab.check_store(colab.DRIVE, lambda _: False)
    assert "not mounted" in refused.value.what
    assert "drive.mount" in refused.value.hint
    assert refused.value.exit_code == 4


def test_a_place_on_a_mounted_drive_and_any_other_place_is_taken() -> None:
    colab.check_store(colab.DRIVE, lambda path: path == "/content/drive")
    colab.check_store("/content/runs", lambda _: False)
    colab.check_store("/content/drives/x", lambda _: False)
