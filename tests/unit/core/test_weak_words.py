"""Messages that a newcomer read twice: each says what happens next, or what to do."""

from __future__ import annotations

import pytest

from supervisor.core.missing_packages import DISTRIBUTIONS
from supervisor.core.recovery import Cause, Death
from supervisor.core.running import _hint


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("torch", "torch"),
        ("cv2", "opencv-python (which has cv2)"),
        ("PIL", "Pillow (which has PIL)"),
        ("sklearn", "scikit-learn (which has sklearn)"),
        ("yaml", "PyYAML (which has yaml)"),
        ("skimage", "scikit-image (which has skimage)"),
        ("pkg_resources", "setuptools<81 (which has pkg_resources)"),
        ("distutils", "setuptools (which has distutils)"),
    ],
)
@pytest.mark.parametrize("cause", [Cause.SETUP, Cause.CODE])
def test_a_missing_package_is_answered_with_its_name_and_where_to_write_it(
    name: str, distribution: str, cause: Cause
) -> None:
    hint = _hint(Death(cause, f"ModuleNotFoundError: No module named '{name}' (train.py:1); a restart would not help"))
    assert hint.startswith(f"name {distribution} in a requirements.txt beside the script, or in its PEP 723 block")


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("No module named 'timm.layers'", "timm is here, in a version without timm.layers"),
        ("No module named 'random.rng'; 'random' is not a package", "a file random.py hides the package random"),
        ("No module named 'google.colab'", "on Colab's machines alone"),
        ("No module named '_lzma'", "this Python was built without"),
        ("No module named 'imp'", "no longer in Python 3.12"),
        ("libGL.so.1: cannot open shared object file: No such file or directory", "opencv-python-headless"),
        ("libsndfile.so.1: cannot open shared object file", "the library libsndfile.so.1 of the system is missing"),
    ],
)
def test_another_failing_import_has_its_own_way_out(said: str, todo: str) -> None:
    assert todo in _hint(Death(Cause.SETUP, f"ImportError: {said} (train.py:1)"))


def test_the_table_names_only_distributions_with_another_name_than_their_module() -> None:
    same = [module for module, name in DISTRIBUTIONS.items() if module == name]
    assert same == []


def test_another_error_of_the_setup_is_to_be_corrected() -> None:
    assert "requirements.txt" not in _hint(Death(Cause.SETUP, "the script's arguments are wrong"))
