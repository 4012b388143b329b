"""A package that is asked for by a path or an address: its name, and the line that an installer takes."""

from __future__ import annotations

import ast
import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from supervisor.core.environment import Direct, normal_name
from supervisor.core.masking import masked_text
from supervisor.environments import texts

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMED = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*(\[[^\]]*\])?\s*@\s*(\S.*)$")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:(//|/)", re.IGNORECASE)
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")
_METADATA = ("pyproject.toml", "setup.py", "setup.cfg")
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")


def is_direct(text: str) -> bool:
    """Return whether a line asks for a package by a path or an address, not by its name at an index."""
    if _NAMED.match(text):
        return True
    bare = _split_marker(text)[0]
    if _SCHEME.match(bare) or bare.startswith(("git+", "hg+", "svn+", "bzr+")):
        return True
    bare = re.sub(r"\[[^\]]*\]$", "", bare)
    return bare.startswith((".", "/", "~")) or bool(re.search(r"[\\/]", bare)) or bare.endswith(_ARCHIVES)


def parse(text: str, folder: Path, *, editable: bool = False) -> Direct:
    """Return what ``text``, a line of a file in ``folder``, asks for. ``problem`` says why it cannot be had here."""
    shown = ("-e " if editable else "") + masked_text(_CREDENTIALS.sub(r"\1", text))
    bare, marker = _split_marker(text)
    named = _NAMED.match(bare)
    name, extras, where = (named[1], named[2] or "", named[3]) if named else ("", "", bare)
    if where.startswith("file:"):
        where = unquote(urlsplit(where).path)
    elif _SCHEME.match(where) or "+" in where.partition(":")[0]:
        return _address(shown, where, f"{name}{extras}", marker, editable=editable)
    where, _, fragment = where.partition("#")
    if not named and (with_extras := re.fullmatch(r"(.*\S)\s*(\[[^\]]*\])", where)):
        where, extras = with_extras[1], with_extras[2]
    return _path(shown, folder / Path(where).expanduser(), name or _egg(fragment), extras, marker)


def name_of_project(folder: Path) -> str:
    """Return the name that a project's own files state, else the folder's name."""
    with suppress(Exception):  # a malformed file is the installer's to report, with its own words
        stated = _from_toml(folder / "pyproject.toml") or _from_cfg(folder / "setup.cfg")
        stated = stated or str(setup_arguments(folder / "setup.py").get("name") or "")
        if stated:
            return normal_name(stated)
    return normal_name(folder.resolve().name)


def setup_arguments(setup: Path) -> dict[str, Any]:
    """Return the arguments of ``setup(...)`` that are written out in a setup.py; those that it computes are left out."""
    if not setup.is_file():
        return {}
    tree = ast.parse(texts.read(setup))
    constants = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "setup":
            for word in node.keywords:
                value = constants.get(word.value.id, word.value) if isinstance(word.value, ast.Name) else word.value
                with suppress(ValueError, TypeError):
                    found[word.arg or ""] = ast.literal_eval(value)
    return found


def _split_marker(text: str) -> tuple[str, str]:
    bare, semicolon, marker = text.partition(" ;") if " ;" in text else text.partition("; ")
    return bare.strip(), marker.strip() if semicolon else ""


def _address(shown: str, where: str, name: str, marker: str, *, editable: bool) -> Direct:
    address, _, fragment = where.partition("#")
    path = re.sub(r"@[^@/]+$", "", urlsplit(address).path)  # behind @ stands a branch, a tag or a commit
    last = path.rstrip("/").rpartition("/")[2]
    plain = name.partition("[")[0] or _egg(fragment)
    guessed = last.partition("-")[0] if last.endswith(_ARCHIVES) else last.removesuffix(".git")
    is_repository = "+" in address.partition(":")[0]
    if not name and plain and not editable:
        name = plain
        where = address + (f"#{rest}" if (rest := _without_egg(fragment)) else "")
    line = f"{name} @ {where}" if name and not editable else f"{'-e ' if editable else ''}{where}"
    return Direct(line, normal_name(plain or guessed), shown, marker, repository=is_repository)


def _path(shown: str, path: Path, name: str, extras: str, marker: str) -> Direct:
    path = path.absolute()
    guessed = path.name.partition("-")[0] if path.name.endswith(_ARCHIVES) else ""
    if not path.exists():
        guessed = guessed or path.name
        return Direct(
            "", normal_name(name or guessed), shown, marker, problem=f"{shown.removeprefix('-e ')} is not here"
        )
    if path.is_file():
        print_of = hashlib.sha256(path.read_bytes()).hexdigest()
        return Direct(f"{path}{extras}", normal_name(name or guessed), shown, marker, fingerprint=print_of)
    files = [path / each for each in _METADATA if (path / each).is_file()]
    if not files:
        problem = f"the folder {path.name or path} has no pyproject.toml, setup.py or setup.cfg"
        return Direct("", normal_name(name or path.name), shown, marker, problem=problem)
    print_of = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    # A folder is installed in place, because a copy of it would not follow the person's edits.
    return Direct(f"-e {path}{extras}", normal_name(name or name_of_project(path)), shown, marker, fingerprint=print_of)


def _egg(fragment: str) -> str:
    found = re.search(r"(?:^|&)egg=([\w.-]+)", fragment)
    return found[1] if found else ""


def _without_egg(fragment: str) -> str:
    return "&".join(part for part in fragment.split("&") if part and not part.startswith("egg="))


def _from_toml(file: Path) -> str:
    import tomllib

    if not file.is_file():
        return ""
    table: Mapping[str, Any] = tomllib.loads(texts.read(file))
    poetry = table.get("tool", {}).get("poetry", {})
    return str(table.get("project", {}).get("name") or poetry.get("name") or "")


def _from_cfg(file: Path) -> str:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    if file.is_file():
        parser.read_string(texts.read(file))
    return parser.get("metadata", "name", fallback="")
