"""Where the letters of a plate come from."""

from __future__ import annotations

import pytest

from hyperlpr_example import fonts
from supervisor.core.errors import SetupError


def test_debians_fonts_stand_in_for_missing_packages(tmp_path, monkeypatch):
    for file in ("truetype/wqy/wqy-microhei.ttc", "opentype/opendin/OSP-DIN.otf"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_bytes(b"font")
    monkeypatch.setattr(fonts, "_packaged", lambda _: None)
    monkeypatch.setattr(fonts, "_DEBIAN", tmp_path)
    faces = fonts.find_faces()
    assert [face.path.name for face in faces.chinese] == ["wqy-microhei.ttc"]
    assert [face.path.name for face in faces.latin] == ["OSP-DIN.otf"]


def test_without_any_font_the_packages_to_install_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_packaged", lambda _: None)
    monkeypatch.setattr(fonts, "_DEBIAN", tmp_path)
    with pytest.raises(SetupError) as caught:
        fonts.find_faces()
    assert "Chinese" in caught.value.what
    assert "manimgx-fonts-cjk" in caught.value.hint


def test_the_digest_tells_other_fonts_and_other_weights_apart(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    a, heavy, b = fonts.Face(tmp_path / "a"), fonts.Face(tmp_path / "a", weight=700), fonts.Face(tmp_path / "b")
    digests = {fonts.Faces((one,), (other,)).digest() for one in (a, heavy, b) for other in (a, heavy, b)}
    assert len(digests) == 9
