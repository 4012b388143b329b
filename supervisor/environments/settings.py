"""What a person told pip or uv about indexes, wheel folders and certificates, said to pip and uv alike.

uv follows uv's own settings first (its variables, uv.toml, ``[tool.uv]``), and pip's where uv has none. pip follows its own
first, and uv's where it has none: who names a private index once is never answered by the public one.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from supervisor.core.values import dataclass, replace
from supervisor.engine.user_key import without

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A notebook kernel asks every child for colours, which would stand between the words we read.
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")
# Settings that send pip's result elsewhere or change its choice; ours names both on the command line.
_NOT_OURS = ("TARGET", "PREFIX", "ROOT", "USER", "PYTHON", "CONSTRAINT", "REQUIREMENT", "EDITABLE", "REQUIRE_VIRTUALENV",
             "NO_DEPS", "UPGRADE", "PRE", "REPORT", "DRY_RUN", "REQUIRE_HASHES", "QUIET", "VERBOSE", "LOG")  # fmt: skip
# uv's own settings that say where packages come from, and how. The others would change where they go, or what is asked for.
_OF_UV = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX(_\w+)?|EXTRA_INDEX_URL|FIND_LINKS|KEYRING_PROVIDER|EXCLUDE_NEWER(_\w+)?|INSECURE_HOST|"
    r"INDEX_STRATEGY|NATIVE_TLS|SYSTEM_CERTS|OFFLINE|HTTP_TIMEOUT|REQUEST_TIMEOUT|HTTP_RETRIES|CONFIG_FILE|NO_CONFIG|NO_BUILD(_PACKAGE)?|"
    r"TORCH_BACKEND|GITHUB_TOKEN|CREDENTIALS_DIR|PYPI_MIRROR)"
)
_UV_OWN = frozenset({"UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"})
_OF_INDEXES = ("index", "index-url", "extra-index-url", "find-links", "no-index")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that decide where packages come from; empty means the installer's default."""

    index: str = ""
    extra_indexes: tuple[str, ...] = ()
    wheel_folders: tuple[str, ...] = ()
    no_index: bool = False
    cert: str = ""
    trusted_hosts: tuple[str, ...] = ()
    proxy: str = ""
    timeout_s: str = ""


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in force for pip: its own; what it has none of, uv's."""
    return _merged(_of_pip(environ), of_uv(environ))


def read_for_uv(environ: Mapping[str, str]) -> Settings:
    """The settings in force for uv: its own; what it has none of, pip's."""
    own, other = of_uv(environ), _of_pip(environ)
    rest = replace(
        own, cert=other.cert, trusted_hosts=other.trusted_hosts, proxy=other.proxy, timeout_s=other.timeout_s
    )
    return _merged(rest, other)


def _merged(first: Settings, second: Settings) -> Settings:
    indexed = first.index or first.extra_indexes
    return replace(
        first,
        index=first.index or second.index,
        extra_indexes=first.extra_indexes or second.extra_indexes,
        wheel_folders=first.wheel_folders or second.wheel_folders,
        no_index=first.no_index or (second.no_index and not indexed),
    )


def _of_pip(environ: Mapping[str, str]) -> Settings:
    """PIP_ variables, else pip's configuration files; file: indexes that are not there are left out."""
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


def for_uv(environ: Mapping[str, str], cache: Path) -> dict[str, str]:
    """An environment for uv: its own settings of where packages come from, and pip's translated where it has none.

    Variables of uv that would send the result elsewhere are left out (deleted, because a blank one is an error). A name is
    taken from the first index that has it, as uv does by itself: a public index does not answer for a private one.
    """
    own, other = of_uv(environ), _of_pip(environ)
    child = {
        key: value
        for key, value in without(environ).items()
        if (not key.startswith("UV_") or (_OF_UV.fullmatch(key) and value)) and key not in {"VIRTUAL_ENV", *_COLOURS}
    }
    child |= {"UV_PYTHON_DOWNLOADS": "never", "UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1"}
    child |= {"UV_LINK_MODE": "hardlink", "NO_COLOR": "1"}
    child.setdefault("UV_HTTP_RETRIES", "1")
    translated = {
        "UV_DEFAULT_INDEX": "" if own.index else other.index,
        "UV_INDEX": "" if own.extra_indexes else " ".join(other.extra_indexes),
        "UV_FIND_LINKS": "" if own.wheel_folders else ",".join(other.wheel_folders),
        "SSL_CERT_FILE": other.cert,
        "UV_INSECURE_HOST": " ".join(other.trusted_hosts),
        "ALL_PROXY": other.proxy,
        "UV_HTTP_TIMEOUT": other.timeout_s,
    }
    return child | {key: value for key, value in translated.items() if value and not (key in child and key in _UV_OWN)}


def of_uv(environ: Mapping[str, str]) -> Settings:
    """Return uv's own settings in force: its variables, else its files; a variable is stronger than a file."""
    index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or ""
    extra = environ.get("UV_INDEX") or environ.get("UV_EXTRA_INDEX_URL") or ""
    links = environ.get("UV_FIND_LINKS") or ""
    found = _of_uv_files(environ)
    return replace(
        found,
        index=_address(index) or found.index,
        extra_indexes=tuple(map(_address, extra.split())) or found.extra_indexes,
        wheel_folders=tuple(filter(None, links.split(","))) or found.wheel_folders,
    )


def for_pip(environ: Mapping[str, str], cache: Path | None = None) -> dict[str, str]:
    """An environment for pip: where packages come from is kept, where they would go is not.

    ``cache``: a folder of ours for its downloads, where the person has chosen none, so that `clean` finds all of them.
    """
    dropped = {f"PIP_{name}" for name in _NOT_OURS} | {"PYTHONDONTWRITEBYTECODE", *_COLOURS}
    child = {key: value for key, value in without(environ).items() if key not in dropped}
    if cache is not None and "cache-dir" not in _from_files(environ):
        child.setdefault("PIP_CACHE_DIR", str(cache))
    child.setdefault("PIP_RETRIES", "1")  # pip's own five cost half a minute before a missing connection is said
    own, other = _of_pip(environ), of_uv(environ)
    translated = {
        "PIP_INDEX_URL": "" if own.index else other.index,
        "PIP_EXTRA_INDEX_URL": "" if own.extra_indexes else " ".join(other.extra_indexes),
        "PIP_FIND_LINKS": "" if own.wheel_folders else " ".join(other.wheel_folders),
        "PIP_NO_INDEX": "1" if other.no_index and not (own.index or own.extra_indexes) else "",
    }
    child |= {key: value for key, value in translated.items() if value}
    return child | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                    "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"}  # fmt: skip


def _of_uv_files(environ: Mapping[str, str]) -> Settings:
    """Return what uv's files say: those of the project of the working folder, of the user, of the system."""
    import tomllib

    told: dict[str, Any] = {}
    for file in _uv_files(environ):
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or uv itself will say what is wrong with its file
            continue
        table = table.get("tool", {}).get("uv", {}) if file.name == "pyproject.toml" else table
        pip = table.get("pip", {})
        for key in _OF_INDEXES:
            told.setdefault(key, pip.get(key, table.get(key))) if key in pip or key in table else None
    rows = [row for row in told.get("index") or [] if isinstance(row, dict) and isinstance(row.get("url"), str)]
    default = next((row["url"] for row in rows if row.get("default")), told.get("index-url") or "")
    extra = [row["url"] for row in rows if not row.get("default") and not row.get("explicit")]
    return Settings(
        index=str(default),
        extra_indexes=tuple(map(str, [*extra, *(told.get("extra-index-url") or [])])),
        wheel_folders=tuple(map(str, told.get("find-links") or [])),
        no_index=told.get("no-index") is True,
    )


def _uv_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield uv's files, the stronger ones first (uv's documentation, "Configuration files")."""
    if environ.get("UV_CONFIG_FILE"):
        yield Path(environ["UV_CONFIG_FILE"])
        return
    if environ.get("UV_NO_CONFIG"):
        return
    here = Path.cwd()
    places = (folder / name for folder in (here, *here.parents) for name in ("uv.toml", "pyproject.toml"))
    nearest = next((file for file in places if _speaks_to_uv(file)), None)
    if nearest is not None:
        yield nearest
    home = Path(environ.get("HOME") or Path.home())
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml"
    yield Path("/etc/uv/uv.toml")


def _speaks_to_uv(file: Path) -> bool:
    try:
        return file.name == "uv.toml" or "[tool.uv" in file.read_text(encoding="utf-8") if file.is_file() else False
    except (OSError, ValueError):
        return False


def _address(text: str) -> str:
    """Return the address of an index that may have a name: ``name=https://…``."""
    name, equals, rest = text.partition("=")
    return rest if equals and re.fullmatch(r"[\w.-]+", name) else text


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
