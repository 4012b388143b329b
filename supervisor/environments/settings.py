"""What a person told pip about indexes, wheel folders and certificates, said to pip and uv alike."""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

# A notebook kernel asks every child for colours, which would stand between the words we read.
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")
# Settings that send pip's result elsewhere or change its choice; ours names both on the command line.
_NOT_OURS = ("TARGET", "PREFIX", "ROOT", "USER", "PYTHON", "CONSTRAINT", "REQUIREMENT", "EDITABLE", "REQUIRE_VIRTUALENV",
             "NO_DEPS", "UPGRADE", "PRE", "REPORT", "DRY_RUN", "REQUIRE_HASHES", "QUIET", "VERBOSE", "LOG")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """pip's settings that decide where packages come from; empty means pip's default."""

    index: str = ""
    extra_indexes: tuple[str, ...] = ()
    wheel_folders: tuple[str, ...] = ()
    no_index: bool = False
    cert: str = ""
    trusted_hosts: tuple[str, ...] = ()
    proxy: str = ""
    timeout_s: str = ""


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in force: PIP_ variables, else pip's configuration files; file: indexes that are not there are left out."""
    values = _from_files(environ)
    values |= {key[4:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("PIP_")}

    def words(key: str) -> tuple[str, ...]:
        return tuple(word for word in values.get(key, "").split() if _is_reachable(word))

    return Settings(
        index=values.get("index-url", ""),
        extra_indexes=words("extra-index-url"),
        wheel_folders=words("find-links"),
        no_index=values.get("no-index", "").lower() in {"1", "true", "yes", "on"},
        cert=values.get("cert", ""),
        trusted_hosts=words("trusted-host"),
        proxy=values.get("proxy", ""),
        timeout_s=values.get("timeout", values.get("default-timeout", "")),
    )


def for_uv(environ: Mapping[str, str], settings: Settings, cache: Path) -> dict[str, str]:
    """An environment for uv: nobody else's UV_ variables (deleted, because a blank one is an error), pip's words translated."""
    child = {
        key: value
        for key, value in environ.items()
        if (not key.startswith("UV_") or (key == "UV_TORCH_BACKEND" and value))
        and key not in {"VIRTUAL_ENV", *_COLOURS}
    }
    child |= {"UV_PYTHON_DOWNLOADS": "never", "UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1"}
    child |= {"UV_LINK_MODE": "hardlink", "NO_COLOR": "1", "UV_HTTP_RETRIES": "1"}
    # pip looks at every index and takes the best; uv's own habit is the first index that knows the name.
    child["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    translated = {
        "UV_DEFAULT_INDEX": settings.index,
        "UV_INDEX": " ".join(settings.extra_indexes),
        "UV_FIND_LINKS": ",".join(settings.wheel_folders),
        "SSL_CERT_FILE": settings.cert,
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "ALL_PROXY": settings.proxy,
        "UV_HTTP_TIMEOUT": settings.timeout_s,
    }
    return child | {key: value for key, value in translated.items() if value}


def for_pip(environ: Mapping[str, str], cache: Path | None = None) -> dict[str, str]:
    """An environment for pip: where packages come from is kept, where they would go is not.

    ``cache``: a folder of ours for its downloads, where the person has chosen none, so that `clean` finds all of them.
    """
    dropped = {f"PIP_{name}" for name in _NOT_OURS} | {"PYTHONDONTWRITEBYTECODE", *_COLOURS}
    child = {key: value for key, value in environ.items() if key not in dropped}
    if cache is not None and "cache-dir" not in _from_files(environ):
        child.setdefault("PIP_CACHE_DIR", str(cache))
    child.setdefault("PIP_RETRIES", "1")  # pip's own five cost half a minute before a missing connection is said
    return child | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                    "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"}  # fmt: skip


def _from_files(environ: Mapping[str, str]) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(_config_files(environ), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):  # pip itself will say what is wrong with its file
        return {}
    values: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            values |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return values


def _config_files(environ: Mapping[str, str]) -> list[str]:
    """Configuration files of pip, the later ones stronger (pip documentation, "Configuration")."""
    chosen = environ.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", user / "pip/pip.conf"]
    return [str(file) for file in (*files, Path(sys.prefix) / "pip.conf")] + ([chosen] if chosen else [])


def _is_reachable(address: str) -> bool:
    if not address.startswith("file:"):
        return True
    try:
        Path(unquote(urlsplit(address).path)).stat()
    except OSError:
        return False
    return True
