"""pip's settings reach uv in uv's words, and nobody's leftovers do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from supervisor.environments import settings

if TYPE_CHECKING:
    from pathlib import Path


def blank(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, **more}


def test_foreign_uv_variables_are_deleted_not_blanked(tmp_path: Path):
    environ = blank(tmp_path, UV_CONSTRAINT="/nowhere", UV_PRERELEASE="", UV_SYSTEM_PYTHON="true", FORCE_COLOR="1")
    child = settings.for_uv(environ, tmp_path / "cache")
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
    child = settings.for_uv(environ, tmp_path)
    assert child["UV_FIND_LINKS"] == f"{tmp_path},wheels"
    assert child["UV_DEFAULT_INDEX"] == "index-a"
    assert child["UV_INDEX"] == "index-b index-c"
    assert settings.read(environ).no_index
    assert child["SSL_CERT_FILE"] == "/certificates.pem"


def test_a_setting_nobody_made_is_not_made_for_them(tmp_path: Path):
    environ = blank(tmp_path)
    child = settings.for_uv(environ, tmp_path)
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


def test_uvs_own_settings_of_indexes_reach_uv_and_are_stronger_than_pips(tmp_path: Path):
    environ = blank(
        tmp_path,
        UV_DEFAULT_INDEX="private",
        UV_INDEX_CORP_PASSWORD="s3cr3t",
        UV_EXCLUDE_NEWER="2026-01-01",
        UV_KEYRING_PROVIDER="subprocess",
        UV_INDEX_STRATEGY="first-index",
        PIP_INDEX_URL="public",
        PIP_EXTRA_INDEX_URL="extra",
    )
    child = settings.for_uv(environ, tmp_path)
    assert child["UV_DEFAULT_INDEX"] == "private"
    assert child["UV_INDEX"] == "extra"
    assert child["UV_INDEX_CORP_PASSWORD"] == "s3cr3t"
    assert child["UV_EXCLUDE_NEWER"] == "2026-01-01"
    assert child["UV_KEYRING_PROVIDER"] == "subprocess"
    assert settings.read_for_uv(environ).index == "private"


def test_no_index_of_strangers_answers_for_a_private_one(tmp_path: Path):
    for more in ({}, {"PIP_EXTRA_INDEX_URL": "index-b"}, {"PIP_INDEX_URL": "index-a"}):
        assert "unsafe" not in settings.for_uv(blank(tmp_path, **more), tmp_path).get("UV_INDEX_STRATEGY", "")


@pytest.mark.parametrize("name", ["uv.toml", "pyproject.toml", "user"])
def test_an_index_of_a_file_of_uv_is_kept_and_serves_pip_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    text = 'index = [{ name = "corp", url = "private", default = true }, { url = "more" }, { url = "x", explicit = true }]\n'
    work = tmp_path / "project" / "deep"
    work.mkdir(parents=True)
    files = {
        "uv.toml": work / "uv.toml",
        "pyproject.toml": work.parent / "pyproject.toml",
        "user": tmp_path / ".config/uv/uv.toml",
    }
    files[name].parent.mkdir(parents=True, exist_ok=True)
    files[name].write_text(f"[tool.uv]\n{text}" if name == "pyproject.toml" else text)
    (work / "pyproject.toml").write_text("[tool.other]\n")
    monkeypatch.chdir(work)
    environ = blank(tmp_path, PIP_INDEX_URL="") if name == "user" else blank(tmp_path)
    child = settings.for_uv(environ, tmp_path)
    assert not {"UV_NO_CONFIG", "UV_DEFAULT_INDEX", "UV_INDEX"} & child.keys()
    assert settings.for_pip(environ)["PIP_INDEX_URL"] == "private"
    assert settings.for_pip(environ)["PIP_EXTRA_INDEX_URL"] == "more"
    assert settings.read(environ).index == "private"
    environ |= {"PIP_INDEX_URL": "pips"}
    assert settings.for_pip(environ)["PIP_INDEX_URL"] == "pips"
    assert "UV_DEFAULT_INDEX" not in settings.for_uv(environ, tmp_path)


def test_a_variable_of_uv_serves_pip_where_pip_has_none(tmp_path: Path):
    environ = blank(
        tmp_path, UV_INDEX="corp=https://127.0.0.1/a https://127.0.0.1/b?x=1", UV_INDEX_URL="https://127.0.0.1/c"
    )
    child = settings.for_pip(environ)
    assert child["PIP_INDEX_URL"] == "https://127.0.0.1/c"
    assert child["PIP_EXTRA_INDEX_URL"] == "https://127.0.0.1/a https://127.0.0.1/b?x=1"


def test_the_users_key_reaches_no_installer(tmp_path: Path):
    environ = blank(tmp_path, SUPERVISOR_KEY="0" * 64)
    assert "SUPERVISOR_KEY" not in {**settings.for_uv(environ, tmp_path), **settings.for_pip(environ)}
