"""Import paths and module names of version 0.1 that scripts, notebooks and running sessions still use."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.mark.torch
def test_a_script_imports_the_sampler_and_the_checkpoint_reader_by_their_old_paths():
    pytest.importorskip("numpy")
    import supervisor
    from supervisor.trainer.folder import read
    from supervisor.trainer.order import Order

    assert Order is supervisor.Order is supervisor.ResumableShuffleSampler
    assert read is supervisor.read_checkpoint


@pytest.mark.parametrize(
    "module", ["supervisor", "supervisor.trainer", "supervisor.trainer.compare", "supervisor.bootstrap"]
)
def test_a_module_that_people_run_by_its_name_is_still_there(module):
    spec = find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations is None or find_spec(f"{module}.__main__") is not None


def test_a_notebook_of_version_0_1_starts_a_detached_session_by_the_old_module_name():
    from supervisor.cli import kept
    from supervisor.cli.notebook import detached

    assert kept.main is detached.main
