"""The source of a script is read with the modules of its own folder, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.engine.files import script_sources

if TYPE_CHECKING:
    from pathlib import Path


def test_modules_of_its_own_folder_are_read_once_each(tmp_path: Path) -> None:
    (tmp_path / "own" / "deep").mkdir(parents=True)
    script = tmp_path / "train.py"
    script.write_text("import os, options, own.parts\nfrom own import deep\nimport own.missing\n")
    (tmp_path / "options.py").write_text("import train  # back again\n")
    (tmp_path / "own" / "__init__.py").write_text("from . import parts\n")
    (tmp_path / "own" / "parts.py").write_text("from .deep import table\n")
    (tmp_path / "own" / "deep" / "__init__.py").write_text("")
    (tmp_path / "own" / "deep" / "table.py").write_text("parser.add_argument('--resume')\n")
    sources = script_sources.read(script)
    assert sources[0] == script.read_text()
    assert len(sources) == len(set(sources)) == 6
    assert script_sources.convention(script).arguments == "--resume {checkpoint}"


def test_a_module_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import broken, huge\n")
    (tmp_path / "broken.py").write_text("this is no Python")
    (tmp_path / "huge.py").write_text("#" * (script_sources.FILE_BYTES_MAX + 1))
    assert script_sources.read(script) == (script.read_text(),)
