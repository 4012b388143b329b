"""Packages as other tools state them: Poetry, Pipfile, setup.cfg, setup.py, conda's environment.yml."""

from __future__ import annotations

import configparser
import re
import shlex
from typing import TYPE_CHECKING, Any

from supervisor.core.environment import Problem, normal_name
from supervisor.core.errors import SetupError
from supervisor.environments import direct, requirement_file, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from supervisor.environments.requirement_file import Collected

CONDA_FILES = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")
_WRITE_THEM = "write what the script needs into a requirements.txt beside it, or start with --no-install"


def poetry(table: Mapping[str, Any], folder: Path, collected: Collected) -> str:
    """Add ``[tool.poetry.dependencies]``; return its rule for Python."""
    own = dict(table.get("tool", {}).get("poetry", {}).get("dependencies", {}))
    python = own.pop("python", "")
    for name, rule in own.items():
        _table_entry(name, rule, folder, collected)
    return _caret(python) if isinstance(python, str) else ""


def pipfile(table: Mapping[str, Any], folder: Path, collected: Collected) -> str:
    """Add a Pipfile's ``[packages]``; return its rule for Python."""
    for name, rule in table.get("packages", {}).items():
        _table_entry(name, rule, folder, collected)
    asked = table.get("requires", {})
    exact = asked.get("python_version") or asked.get("python_full_version") or ""
    return f"=={exact}.*" if re.fullmatch(r"\d+\.\d+", exact) else ""


def dynamic(table: Mapping[str, Any], folder: Path, collected: Collected) -> bool:
    """Add the files that setuptools' ``dynamic`` names for the dependencies; return whether it names some."""
    stated = table.get("tool", {}).get("setuptools", {}).get("dynamic", {}).get("dependencies", {})
    files = stated.get("file", []) if isinstance(stated, dict) else []
    for name in [files] if isinstance(files, str) else files:
        requirement_file.read(folder / name, collected)
    return bool(files)


def setup_cfg(file: Path, collected: Collected) -> bool:
    """Add a setup.cfg's ``install_requires``; return whether it states any."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(texts.read(file))
    except configparser.Error as error:
        raise SetupError(
            f"{collected.source} cannot be read: {str(error).splitlines()[0]}", "correct the file"
        ) from error
    lines = [line.strip() for line in parser.get("options", "install_requires", fallback="").splitlines()]
    for line in filter(None, lines):
        if line.startswith("file:"):
            for name in line.removeprefix("file:").split(","):
                requirement_file.read(file.parent / name.strip(), collected)
        else:
            collected.add(line, file.parent)
    return any(lines)


def setup_py(file: Path, collected: Collected) -> bool:
    """Add the ``install_requires`` that is written out in a setup.py; return whether there is one.

    The file is never run for this. A list that it computes is said, and the start goes on without it.
    """
    try:
        arguments = direct.setup_arguments(file)
        computed = "install_requires" in texts.read(file)
    except (SyntaxError, ValueError):  # a setup.py of Python 2, for instance
        arguments, computed = {}, True
    stated = arguments.get("install_requires")
    if stated is None:
        if computed:
            collected.notes.append(f"{collected.source} computes its packages, and is not run here: {_WRITE_THEM}")
        return computed
    for line in stated.splitlines() if isinstance(stated, str) else stated:
        if str(line).strip():
            collected.add(str(line).strip(), file.parent)
    return True


def conda(file: Path, collected: Collected) -> None:
    """Add the ``pip:`` part of an environment.yml; what it asks of conda is only compared with what is here."""
    for depth, item in _items(texts.read(file)):
        if depth == 0:
            name = re.match(r"(?:[\w-]+::)?([A-Za-z0-9_][\w.-]*)", item)
            if name and name[1] not in {"python", "pip"}:
                collected.conda.append(requirement_file.conda_name(name[1]))
        elif item.startswith("-"):
            _pip_option(item, file, collected)
        else:
            collected.add(item, file.parent)


def _pip_option(item: str, file: Path, collected: Collected) -> None:
    words = shlex.split(item)
    if words[0] in {"-r", "--requirement"} and len(words) > 1:
        requirement_file.read(file.parent / words[1], collected)
    elif words[0] in {"-e", "--editable"} and len(words) > 1:
        collected.add(words[1], file.parent, editable=True)
    else:
        collected.options += words


def _items(text: str) -> Iterator[tuple[int, str]]:
    """Yield the entries of ``dependencies:``, each with 0, or with 1 for those under ``pip:``.

    This reads the lists that ``conda env export`` and people write; there is no reader of YAML in Python itself.
    """
    inside, indent_of_pip = False, -1
    for line in text.splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if flow := re.fullmatch(r"dependencies:\s*\[(.*)\]", bare):
            yield from ((0, _unquoted(each)) for each in flow[1].split(",") if each.strip())
        elif re.fullmatch(r"dependencies:", bare):
            inside = True
        elif inside and bare.strip():
            entry = re.fullmatch(r"(\s*)-\s+(.*)", bare)
            if entry is None:
                inside = bare.startswith(" ")
                continue
            indent, item = len(entry[1]), _unquoted(entry[2])
            if item.rstrip() == "pip:":
                indent_of_pip = indent
                continue
            if 0 <= indent_of_pip < indent:
                yield 1, item
            else:
                indent_of_pip = -1
                yield 0, item


def _unquoted(text: str) -> str:
    return text.strip().strip("'\"").strip()


def _table_entry(name: str, rule: Any, folder: Path, collected: Collected) -> None:
    """Add one row of a Poetry or Pipfile table, in the words of pip."""
    if isinstance(rule, list):  # Poetry: a row for each system or Python
        for each in rule:
            _table_entry(name, each, folder, collected)
        return
    row: Mapping[str, Any] = rule if isinstance(rule, dict) else {"version": rule}
    if row.get("optional"):
        return
    extras = f"[{','.join(row['extras'])}]" if row.get("extras") else ""
    marker = _marker(row)
    repository, path = row.get("git"), row.get("path") or row.get("file") or row.get("url")
    if repository:
        revision = next((f"@{row[key]}" for key in ("rev", "tag", "branch", "ref") if row.get(key)), "")
        inner = f"#subdirectory={row['subdirectory']}" if row.get("subdirectory") else ""
        collected.add(f"{name}{extras} @ git+{repository}{revision}{inner}{marker}", folder)
    elif path:
        collected.add(f"{name}{extras} @ {path}{marker}", folder)
    elif isinstance(row.get("version", "*"), str):
        collected.add(f"{name}{extras}{_caret(row.get('version', '*'))}{marker}", folder)
    else:
        collected.problems.append(
            Problem(f"{collected.source}: {name} has no version that can be read", _WRITE_THEM, here=normal_name(name))
        )


def _marker(row: Mapping[str, Any]) -> str:
    rules = [str(row["markers"])] if row.get("markers") else []
    if row.get("python"):
        parts = [part.strip() for part in _caret(str(row["python"])).split(",") if part.strip()]
        for part in parts:
            operator, version = re.match(r"([<>=!~]*)\s*(.*)", part).groups()  # type: ignore[union-attr]  # always matches
            rules.append(f"python_version {operator or '=='} '{version}'")
    if row.get("platform"):
        rules.append(f"sys_platform == '{row['platform']}'")
    return f" ; {' and '.join(rules)}" if rules else ""


def _caret(rule: str) -> str:
    """Return Poetry's and Pipenv's version rule as PEP 440 writes it: ``^1.2`` is ``>=1.2,<2``, ``*`` is nothing."""
    made = []
    for part in (each.strip() for each in rule.split(",")):
        operator, version = (part[0], part[1:].strip()) if part[:1] in {"^", "~"} and part[:2] != "~=" else ("", part)
        numbers = [int(each) for each in re.findall(r"\d+", re.split(r"[a-z+]", version)[0])]
        if part in {"", "*"}:
            continue
        if operator and numbers:
            made.append(f">={version},<{_next(numbers, operator)}")
        elif re.match(r"\d", part):
            made.append(f"=={part}")
        else:
            made.append(part)
    return ",".join(made)


def _next(numbers: list[int], operator: str) -> str:
    if operator == "~":
        at = min(1, len(numbers) - 1)
    else:
        at = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
    return ".".join(map(str, [*numbers[:at], numbers[at] + 1]))
