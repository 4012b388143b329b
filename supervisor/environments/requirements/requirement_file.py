"""Reader of requirements files: includes, constraints, options and other lines."""

from __future__ import annotations

import re
import shlex
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core.environment import RequirementProblem, Requirements, normal_name
from supervisor.core.errors import UserError
from supervisor.core.frozen import dataclass
from supervisor.environments.requirements import direct_references, text_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from supervisor.core.environment import DirectReference

_LONG = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links",
         "--pypi-url": "--index-url"}  # fmt: skip
_PASSED_ON = {
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--trusted-host",
    "--no-binary",
    "--only-binary",
}
_SWITCHES = {"--no-index", "--pre"}
_ALREADY_TRUE = {
    "--require-hashes",
    "--prefer-binary",
}  # our own lock has hashes, and wheels are preferred anyway
_IGNORED = {"--use-feature", "--no-use-wheel", "--use-pep517", "--no-build-isolation", "--config-settings",
             "--global-option", "--install-option", "--process-dependency-links", "--always-unzip", "-Z"}  # fmt: skip
_OF_A_REQUIREMENT = re.compile(r"\s--(?:hash|config-settings?|global-option|install-option)\b")
_HASH = re.compile(r"\s--hash[= ]\s*(\w+:[0-9a-fA-F]+)")
_CONDA = re.compile(r"([A-Za-z0-9_][\w.-]*)=(?!=)\s*([^\s=,;]+)(=[^\s=,;]*)?")
_CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch", "py-opencv": "opencv-python",
                "opencv": "opencv-python", "tensorflow-gpu": "tensorflow", "tensorflow-base": "tensorflow",
                "matplotlib-base": "matplotlib", "jaxlib-cuda": "jaxlib"}  # fmt: skip


@dataclass
class Collected:
    """Everything collected from one source and its includes. ``source`` names it in messages."""

    source: str
    requirements: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    directs: list[DirectReference] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    hashes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    conda: list[str] = field(default_factory=list)
    problems: list[RequirementProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, text: str, folder: Path, *, at: str = "", editable: bool = False) -> None:
        """Add one requirement of a file in ``folder``. ``at`` is its place for messages."""
        if editable or direct_references.is_direct(text):
            self.directs.append(direct_references.parse(text, folder, editable=editable))
        elif conda := _CONDA.fullmatch(text):
            self.problems.append(
                RequirementProblem(
                    f"{at or self.source}: {text!r} is a line of a conda export, which pip cannot read",
                    "in that environment: pip list --format=freeze > requirements.txt; or --no-install starts with what is here",
                    here=conda_name(conda[1]),
                )
            )
        else:
            self.requirements.append(text)

    def to_requirements(self, python: str = "", debian: tuple[str, ...] = ()) -> Requirements:
        """Return everything collected as one value."""
        return Requirements(
            tuple(self.requirements), python, debian, tuple(self.options), self.source, tuple(self.directs),
            tuple(self.constraints), tuple(self.hashes.items()), tuple(self.conda), tuple(self.problems), tuple(self.notes),
        )  # fmt: skip


def conda_name(name: str) -> str:
    """Return the Python package name of a conda package."""
    normal = normal_name(name)
    return _CONDA_NAMES.get(normal, normal)


def read(path: Path, collected: Collected, *, constraint: bool = False, above: frozenset[Path] = frozenset()) -> None:
    """Add the requirements of the file at ``path`` and of each file that it includes.

    Args:
        path: the file.
        collected: receives the requirements.
        constraint: the file holds constraints.
        above: the files that include this one.
    """
    place = path.resolve()
    if place in above:  # files that include each other: pip reads each once too
        return
    text = text_encoding.read(path, "the name of a requirements file that is here")
    for number, line in _lines(text):
        at = f"{path.name}, line {number}" if above else f"{collected.source}, line {number}"
        if line.startswith("-"):
            _option(line, path, collected, at, constraint=constraint, above=above | {place})
        elif constraint:
            collected.constraints.append(_strip_options(line))
        else:
            _requirement(line, path.parent, collected, at)


def _lines(text: str) -> Iterable[tuple[int, str]]:
    """Yield number and text of each line without comments. A backslash at the end joins the next line."""
    begun, number = "", 0
    for at, line in enumerate(text.splitlines(), 1):
        number = number or at
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            begun += line[:-1] + " "
            continue
        whole = re.sub(r"(^|\s)#.*$", "", begun + line).strip()
        if whole:
            yield number, whole
        begun, number = "", 0
    if begun.strip():
        yield number, begun.strip()


def _requirement(line: str, folder: Path, collected: Collected, at: str) -> None:
    text = _strip_options(line)
    hashes = tuple(each.lower() for each in _HASH.findall(line))
    if hashes and (name := re.match(r"[A-Za-z0-9][\w.-]*", text)):
        collected.hashes[normal_name(name[0])] = hashes
    collected.add(text, folder, at=at)


def _strip_options(line: str) -> str:
    return _OF_A_REQUIREMENT.split(line)[0].strip()


def _option(line: str, path: Path, collected: Collected, at: str, *, constraint: bool, above: frozenset[Path]) -> None:
    head, value = _split(line)
    name = _LONG.get(head, head)
    if name in {"--requirement", "--constraint"}:
        if "://" in value:
            problem = RequirementProblem(f"{at}: {value} is an address", "download the file and name it here instead")
            collected.problems.append(problem)
            return
        try:
            read(path.parent / value, collected, constraint=constraint or name == "--constraint", above=above)
        except UserError as error:
            collected.problems.append(
                RequirementProblem(f"{at}: {error.what}", f"correct {head} {shlex.quote(value)}, or remove it")
            )
    elif name == "--editable":
        collected.add(value, path.parent, at=at, editable=True)
    elif name in _PASSED_ON:
        near = path.parent / value
        collected.options += [name, str(near.absolute()) if name == "--find-links" and near.exists() else value]
    elif name in _SWITCHES:
        collected.options.append(name)
    elif name in _IGNORED:
        collected.notes.append(f"{at}: {name} is left out")
    elif name not in _ALREADY_TRUE:
        hint = "remove the line, or start with --no-install"
        collected.problems.append(RequirementProblem(f"{at}: {head} is no option of a requirements file", hint))


def _split(line: str) -> tuple[str, str]:
    """Return an option and its value from ``--name value``, ``--name=value``, ``-n value`` or ``-nvalue``."""
    found = re.match(r"(--[\w-]+|-\w)\s*=?\s*(.*)$", line)
    if found is None:
        return line, ""
    value = found[2].strip()
    try:
        words = shlex.split(value)
    except ValueError:  # an unclosed quotation mark is part of the name
        words = []
    return found[1], words[0] if len(words) == 1 else value
