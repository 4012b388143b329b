"""What a script asks for: its PEP 723 block, else the requirements.txt or pyproject.toml beside it."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.environment import Wanted
from supervisor.core.errors import SetupError, UsageError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# From PEP 723, "Specification".
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OPENING = re.compile(r"(?m)^# /// script[ \t]*$")
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True)
class Wish:
    """`wanted` for the environment; `options`: the rest of ``[tool.supervisor]``, defaults for the command line's own."""

    wanted: Wanted = field(default_factory=Wanted)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """The text in which the wish stands, its kind ("block", "requirements", "pyproject", ""), and where its line 1 is."""

    kind: str = ""
    text: str = ""
    path: Path | None = None
    first_line: int = 1


def read(script: Path) -> Wish:
    """The wish of `script`; one that asks for nothing is empty. Raises UserError naming the line of a malformed one."""
    return parse(find(script), script.name)


def find(script: Path) -> Source:
    """The text of the wish, not yet parsed, so that an unchanged one costs no parsing."""
    text = _text(script)
    blocks = [found for found in _BLOCK.finditer(text) if found["type"] == "script"]
    openings = _OPENING.findall(text)
    if len(openings) > 1:
        raise SetupError(f"{script.name} has {len(openings)} script blocks", "keep one '# /// script' block (PEP 723)")
    if blocks:
        content = "".join(
            line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
        )
        return Source("block", content, script, text.count("\n", 0, blocks[0].start("content")) + 1)
    if openings:
        line = text.count("\n", 0, next(_OPENING.finditer(text)).start()) + 1
        raise SetupError(
            f"{script.name}, line {line}: the script block is not closed",
            "each of its lines starts with '#', and it ends with a line '# ///'",
        )
    for kind, name in (("requirements", "requirements.txt"), ("pyproject", "pyproject.toml")):
        beside = script.parent / name
        if beside.is_file():
            return Source(kind, _with_included(beside) if kind == "requirements" else _text(beside), beside)
    return Source()


def parse(source: Source, script_name: str) -> Wish:
    """The wish in `source`."""
    if source.path is None:
        return Wish()
    if source.kind == "requirements":
        requirements, options = _requirements(source.text)
        return Wish(Wanted(requirements, index_options=options, source=f"requirements.txt beside {script_name}"))
    table = _toml(source)
    words = f"{script_name}'s script block" if source.kind == "block" else f"pyproject.toml beside {script_name}"
    project = table if source.kind == "block" else _table(table, "project", words)
    own = dict(_table(_table(table, "tool", words), "supervisor", words))
    debian = _strings(own.pop("apt", []), f"{words}: apt")
    bad = next((name for name in debian if not _DEBIAN_NAME.fullmatch(name)), None)
    if bad is not None:
        raise SetupError(f"{words}: {bad!r} is not the name of a Debian package", 'write apt = ["libgl1"]')
    python = project.get("requires-python", "")
    if not isinstance(python, str):
        raise SetupError(f"{words}: requires-python is not a string", 'write requires-python = ">=3.11"')
    wanted = _strings(project.get("dependencies", []), f"{words}: dependencies")
    return Wish(Wanted(wanted, python, debian, source=words), own)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "give the path of a training script") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8 text", "save it as UTF-8") from error


def _toml(source: Source) -> dict[str, Any]:
    import tomllib

    name = "" if source.path is None else source.path.name
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = source.first_line + (int(at[1]) if at else len(source.text.splitlines())) - 1
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise SetupError(
            f"{name}, line {line}: {reason[:1].lower()}{reason[1:]}", "the block is TOML: see PEP 723 for an example"
        ) from error


def _table(table: Mapping[str, Any], key: str, words: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise SetupError(f"{words}: {key} is not a table", f"write it as [{key}]")
    return value


def _strings(value: object, words: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SetupError(f"{words} is not a list of strings", 'write it as ["first", "second"]')
    return tuple(value)


def _requirements(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Requirements and index options of a requirements file's text; hashes in it are left to the lock."""
    import shlex

    requirements: list[str] = []
    options: list[str] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = re.sub(r"(^|\s)#.*$", "", line).strip()
        if words.startswith("-"):
            options += shlex.split(words.replace("=", " ", 1) if words.startswith("--") else words)
        elif words:
            requirements.append(re.sub(r"\s--hash=\S+", "", words).strip())
    return tuple(requirements), tuple(options)


def _with_included(path: Path) -> str:
    """A requirements file's text with the files it includes in their places."""
    return re.sub(
        r"(?m)^(?:-r|--requirement)[ =]?[ ]*(\S+).*$", lambda found: _with_included(path.parent / found[1]), _text(path)
    )
