"""What a script asks for: its PEP 723 block, else the first file beside it that states packages."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.environment import Problem, Wanted
from supervisor.core.errors import SetupError
from supervisor.core.values import dataclass, replace
from supervisor.environments import project_files, requirement_file, texts
from supervisor.environments.requirement_file import Collected

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
    """A block of TOML in the script `path`, and the number of its first line there."""

    text: str
    path: Path
    first_line: int = 1


def read(script: Path, *, install: bool = True) -> Wish:
    """The wish of `script`; one that asks for nothing is empty. Raises UserError naming the line of a malformed one.

    With ``install=False`` nothing of it may stop a start: what cannot be read becomes one of its problems.
    """
    try:
        block = find_block(script)
        return _in_block(block) if block else _beside(script)
    except SetupError as error:
        if install:
            raise
        return Wish(Wanted(source=script.name, problems=(Problem(error.what, error.hint),)))


def find_block(script: Path) -> Source | None:
    """The script's block, not yet parsed; None where there is none."""
    text = texts.read(script)
    blocks = [found for found in _BLOCK.finditer(text) if found["type"] == "script"]
    openings = _OPENING.findall(text)
    if len(openings) > 1:
        raise SetupError(f"{script.name} has {len(openings)} script blocks", "keep one '# /// script' block (PEP 723)")
    if blocks:
        content = "".join(
            line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
        )
        return Source(content, script, text.count("\n", 0, blocks[0].start("content")) + 1)
    if openings:
        line = text.count("\n", 0, next(_OPENING.finditer(text)).start()) + 1
        raise SetupError(
            f"{script.name}, line {line}: the script block is not closed",
            "each of its lines starts with '#', and it ends with a line '# ///'",
        )
    return None


def _in_block(block: Source) -> Wish:
    return _of_project(_toml(block), Collected(f"{block.path.name}'s script block"), block.path.parent, in_block=True)


def _beside(script: Path) -> Wish:
    """The wish of the first file beside `script` that states packages; the options of a pyproject.toml count anyway."""
    folder = script.parent
    options: Mapping[str, Any] = {}
    required = ""
    debian: tuple[str, ...] = ()
    if (folder / "requirements.txt").is_file():
        collected = Collected(f"requirements.txt beside {script.name}")
        requirement_file.read(folder / "requirements.txt", collected)
        return Wish(collected.wanted())
    if (project := folder / "pyproject.toml").is_file():
        words = f"pyproject.toml beside {script.name}"
        found = _of_project(_toml(Source(texts.read(project), project)), Collected(words), folder)
        options, required, debian = found.options, found.wanted.requires_python, found.wanted.debian
        if found.wanted.asks:
            return found
    return Wish(replace(_of_other_tools(script), requires_python=required, debian=debian), options)


def _of_other_tools(script: Path) -> Wanted:
    folder = script.parent
    if (file := folder / "Pipfile").is_file():
        collected = Collected(f"Pipfile beside {script.name}")
        python = project_files.pipfile(_toml(Source(texts.read(file), file)), folder, collected)
        return collected.wanted(python)
    for name, reader in (("setup.cfg", project_files.setup_cfg), ("setup.py", project_files.setup_py)):
        collected = Collected(f"{name} beside {script.name}")
        if (folder / name).is_file() and reader(folder / name, collected):
            return collected.wanted()
    for name in project_files.CONDA_FILES:
        if (folder / name).is_file():
            collected = Collected(f"{name} beside {script.name}")
            project_files.conda(folder / name, collected)
            return collected.wanted()
    return Wanted()


def _of_project(table: Mapping[str, Any], collected: Collected, folder: Path, *, in_block: bool = False) -> Wish:
    words = collected.source
    project = table if in_block else _table(table, "project", words)
    own = dict(_table(_table(table, "tool", words), "supervisor", words))
    debian = _strings(own.pop("apt", []), f"{words}: apt")
    bad = next((name for name in debian if not _DEBIAN_NAME.fullmatch(name)), None)
    if bad is not None:
        raise SetupError(f"{words}: {bad!r} is not the name of a Debian package", 'write apt = ["libgl1"]')
    python = project.get("requires-python", "")
    if not isinstance(python, str):
        raise SetupError(f"{words}: requires-python is not a string", 'write requires-python = ">=3.11"')
    for text in _strings(project.get("dependencies", []), f"{words}: dependencies"):
        collected.add(text, folder)
    if not in_block and "dependencies" not in project and not project_files.dynamic(table, folder, collected):
        python = project_files.poetry(table, folder, collected) or python
    return Wish(collected.wanted(python, debian), own)


def _toml(source: Source) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = source.first_line + (int(at[1]) if at else len(source.text.splitlines())) - 1
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise SetupError(
            f"{source.path.name}, line {line}: {reason[:1].lower()}{reason[1:]}",
            "the block is TOML: see PEP 723 for an example",
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
