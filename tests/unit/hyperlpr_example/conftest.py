"""Faces that every machine has: Pillow's own font, which draws a box for Chinese characters."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_PLATES = Path(__file__).parents[3].parent / "shared/data/plates-dev"


@pytest.fixture
def faces(tmp_path):
    from PIL import ImageFont

    from hyperlpr_example.fonts import Face, Faces

    file = tmp_path / "pillow.ttf"
    file.write_bytes(ImageFont.load_default(20).path.getvalue())
    return Faces((Face(file),), (Face(file),))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HYPERLPR_CACHE", str(folder))
    return folder


@pytest.fixture
def real_plates():
    if not REAL_PLATES.is_dir():
        pytest.skip("no real plates: ../shared/data/plates-dev is not beside this checkout")
    return REAL_PLATES


@pytest.fixture
def fonts():
    from hyperlpr_example.fonts import find_faces
    from supervisor.core.errors import SetupError

    try:
        find_faces()
    except SetupError as error:
        pytest.skip(f"{error.what}: {error.hint}")
