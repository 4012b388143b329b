"""pip's settings reach uv in uv's words, and nobody's leftovers do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.environments import settings

if TYPE_CHECKING:
    from pathlib import Path


def blank(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, **more}


def test_foreign_uv_variables_are_deleted_not_blanked(tmp_path: Path):
    environ = blank(tmp_path, UV_CONSTRAINT="/nowhere", UV_PRERELEASE="", UV_SYSTEM_PYTHON="true", FORCE_COLOR="1")
    child = settings.for_uv(environ, settings.read(environ), tmp_path / "cache")
    assert not {"UV_CONSTRAINT", "UV_PRERELEASE", "UV_SYSTEM_PYTHON", "FORCE_COLOR"} & child.keys()
    assert child["UV_PYTHON_DOWNLOADS"] == "never"
    assert child["UV_CACHE_DIR"] == str(tmp_path / "cache")


def test_pips_variables_are_translated(tmp_path: Path):
    environ = blank(
        tmp_path,
        PIP_FIND_LINKS=f"{tmp_path} wheels",
        PIP_INDEX_URL="index-a",
        PIP_EXTRA_INDEX_URL="index-b index-c",
        PIP_NO_INDEX="1",
        PIP_CERT="/certificates.pem",
    )
    child = settings.for_uv(environ, settings.read(environ), tmp_path)
    assert child["UV_FIND_LINKS"] == f"{tmp_path},wheels"
    assert child["UV_DEFAULT_INDEX"] == "index-a"
    assert child["UV_INDEX"] == "index-b index-c"
    assert settings.read(environ).no_index
    assert child["SSL_CERT_FILE"] == "/certificates.pem"


def test_a_setting_nobody_made_is_not_made_for_them(tmp_path: Path):
    environ = blank(tmp_path)
    child = settings.for_uv(environ, settings.read(environ), tmp_path)
    assert not {"UV_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_INDEX", "SSL_CERT_FILE"} & child.keys()


def test_a_local_index_that_is_not_there_is_left_out(tmp_path: Path):
    (tmp_path / "simple").mkdir()
    environ = blank(tmp_path, PIP_EXTRA_INDEX_URL=f"file://{tmp_path}/simple file://{tmp_path}/gone")
    assert settings.read(environ).extra_indexes == (f"file://{tmp_path}/simple",)


def test_a_variable_is_stronger_than_pips_file_and_install_stronger_than_global(tmp_path: Path):
    chosen = tmp_path / "pip.conf"
    chosen.write_text("[global]\nindex-url = a\nfind-links = one\n  two\ntimeout = 9\n[install]\nindex-url = b\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(chosen), "PIP_TIMEOUT": "30"}
    read = settings.read(environ)
    assert (read.index, read.wheel_folders, read.timeout_s) == ("b", ("one", "two"), "30")


def test_a_broken_configuration_file_is_left_for_pip_to_name(tmp_path: Path):
    chosen = tmp_path / "pip.conf"
    chosen.write_text("no section\n")
    assert settings.read({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(chosen)}).index == ""


def test_pip_is_not_told_where_to_put_things_by_anyone_else(tmp_path: Path):
    child = settings.for_pip(
        blank(tmp_path, PIP_TARGET="/elsewhere", PIP_USER="1", PIP_CONSTRAINT="/c", PIP_FIND_LINKS="/w")
    )
    assert not {"PIP_TARGET", "PIP_CONSTRAINT"} & child.keys()
    assert child["PIP_USER"] == "0"
    assert child["PIP_FIND_LINKS"] == "/w"
