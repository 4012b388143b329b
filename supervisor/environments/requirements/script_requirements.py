"""A script's requirements: its PEP 723 block, else the first file beside it that states packages."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Any

from supervisor.core.environment import RequirementProblem, Requirements
from supervisor.core.errors import SetupError
from supervisor.core.frozen import dataclass, replace
from supervisor.environments.requirements import project_files, requirement_file, text_encoding
from supervisor.environments.requirements.requirement_file import Collected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# From PEP 723, "Specification".
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OPENING = re.compile(r"(?m)^# /// script[ \t]*$")
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True)
class ScriptRequirements:
    """``requirements`` of the environment.

    ``options``: the rest of ``[tool.supervisor]``, defaults of command line options.
    """

    requirements: Requirements = field(default_factory=Requirements)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequirementSource:
    """A block of TOML in the script ``path``, and the number of its first line there."""

    text: str
    path: Path
    first_line: int = 1


def read(script: Path, *, install: bool = True) -> ScriptRequirements:
    """Return the requirements of a script, which may be empty. Raises UserError with the line of a malformed one.

    With ``install=False`` an error does not stop the start: unreadable parts are listed in its problems.
    """
    try:
        block = find_block(script)
        return _from_block(block) if block else _from_neighbour_file(script)
    except SetupError as error:
        if install:
            raise
        return ScriptRequirements(
            Requirements(source=script.name, problems=(RequirementProblem(error.what, error.hint),))
        )


def find_block(script: Path) -> RequirementSource | None:
    """Return the script's block, not yet parsed; None if there is none."""
    text = text_encoding.read(script)
    blocks = [found for found in _BLOCK.finditer(text) if found["type"] == "script"]
    openings = _OPENING.findall(text)
    if len(openings) > 1:
        raise SetupError(f"{script.name} has {len(openings)} script blocks", "keep one '# /// script' block (PEP 723)")
    if blocks:
        content = "".join(
            line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
        )
        return RequirementSource(content, script, text.count("\n", 0, blocks[0].start("content")) + 1)
    if openings:
        line = text.count("\n", 0, next(_OPENING.finditer(text)).start()) + 1
        raise SetupError(
            f"{script.name}, line {line}: the script block is not closed",
            "each of its lines starts with '#', and it ends with a line '# ///'",
        )
    return None


def _from_block(block: RequirementSource) -> ScriptRequirements:
    return _from_pyproject(
        _toml(block), Collected(f"{block.path.name}'s script block"), block.path.parent, in_block=True
    )


def _from_neighbour_file(script: Path) -> ScriptRequirements:
    """Return the requirements of the first file beside the script that states any.

    A pyproject.toml's options always count.
    """
    folder = script.parent
    options: Mapping[str, Any] = {}
    required = ""
    debian: tuple[str, ...] = ()
    if (folder / "requirements.txt").is_file():
        collected = Collected(f"requirements.txt beside {script.name}")
        requirement_file.read(folder / "requirements.txt", collected)
        return ScriptRequirements(collected.to_requirements())
    if (project := folder / "pyproject.toml").is_file():
        words = f"pyproject.toml beside {script.name}"
        found = _from_pyproject(
            _toml(RequirementSource(text_encoding.read(project), project)), Collected(words), folder
        )
        options, required, debian = found.options, found.requirements.requires_python, found.requirements.debian
        if found.requirements.asks:
            return found
    return ScriptRequirements(replace(_from_other_tools(script), requires_python=required, debian=debian), options)


def _from_other_tools(script: Path) -> Requirements:
    folder = script.parent
    if (file := folder / "Pipfile").is_file():
        collected = Collected(f"Pipfile beside {script.name}")
        python = project_files.pipfile(_toml(RequirementSource(text_encoding.read(file), file)), folder, collected)
        return collected.to_requirements(python)
    for name, reader in (("setup.cfg", project_files.setup_cfg), ("setup.py", project_files.setup_py)):
        collected = Collected(f"{name} beside {script.name}")
        if (folder / name).is_file() and reader(folder / name, collected):
            return collected.to_requirements()
    for name in project_files.CONDA_FILES:
        if (folder / name).is_file():
            collected = Collected(f"{name} beside {script.name}")
            project_files.conda(folder / name, collected)
            return collected.to_requirements()
    return Requirements()


def _from_pyproject(
    table: Mapping[str, Any], collected: Collected, folder: Path, *, in_block: bool = False
) -> ScriptRequirements:
    words = collected.source
    project = table if in_block else _table(table, "project", words)
    own_options = dict(_table(_table(table, "tool", words), "supervisor", words))
    debian = _strings(own_options.pop("apt", []), f"{words}: apt")
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
    return ScriptRequirements(collected.to_requirements(python, debian), own_options)


def _toml(source: RequirementSource) -> dict[str, Any]:
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
