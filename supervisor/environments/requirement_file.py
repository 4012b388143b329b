"""Reading requirements files: what they include and constrain, their options, and lines that are no requirement."""

from __future__ import annotations

import re
import shlex
from dataclasses import field
from typing import TYPE_CHECKING

from supervisor.core.environment import Problem, Wanted, normal_name
from supervisor.core.errors import UserError
from supervisor.core.values import dataclass
from supervisor.environments import direct, texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from supervisor.core.environment import Direct

_LONG = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links",
         "--pypi-url": "--index-url"}  # fmt: skip
_FOR_THE_INSTALLER = {
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--trusted-host",
    "--no-binary",
    "--only-binary",
}
_SWITCHES = {"--no-index", "--pre"}
_GRANTED = {"--require-hashes", "--prefer-binary"}  # our own lock has hashes, and a wheel is taken where there is one
_LEFT_OUT = {"--use-feature", "--no-use-wheel", "--use-pep517", "--no-build-isolation", "--config-settings",
             "--global-option", "--install-option", "--process-dependency-links", "--always-unzip", "-Z"}  # fmt: skip
_OF_A_REQUIREMENT = re.compile(r"\s--(?:hash|config-settings?|global-option|install-option)\b")
_HASH = re.compile(r"\s--hash[= ]\s*(\w+:[0-9a-fA-F]+)")
_CONDA = re.compile(r"([A-Za-z0-9_][\w.-]*)=(?!=)\s*([^\s=,;]+)(=[^\s=,;]*)?")
_CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch", "py-opencv": "opencv-python",
                "opencv": "opencv-python", "tensorflow-gpu": "tensorflow", "tensorflow-base": "tensorflow",
                "matplotlib-base": "matplotlib", "jaxlib-cuda": "jaxlib"}  # fmt: skip


@dataclass
class Collected:
    """What is gathered from one source and all that it includes; ``source`` names it in messages."""

    source: str
    requirements: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    directs: list[Direct] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    hashes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    conda: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, text: str, folder: Path, *, at: str = "", editable: bool = False) -> None:
        """Take one requirement of a file in ``folder``; ``at`` is its place in words."""
        if editable or direct.is_direct(text):
            self.directs.append(direct.parse(text, folder, editable=editable))
        elif conda := _CONDA.fullmatch(text):
            self.problems.append(
                Problem(
                    f"{at or self.source}: {text!r} is a line of a conda export, which pip cannot read",
                    "in that environment: pip list --format=freeze > requirements.txt; or --no-install starts with what is here",
                    here=conda_name(conda[1]),
                )
            )
        else:
            self.requirements.append(text)

    def wanted(self, python: str = "", debian: tuple[str, ...] = ()) -> Wanted:
        """Return all of it as one wish."""
        return Wanted(
            tuple(self.requirements), python, debian, tuple(self.options), self.source, tuple(self.directs),
            tuple(self.constraints), tuple(self.hashes.items()), tuple(self.conda), tuple(self.problems), tuple(self.notes),
        )  # fmt: skip


def conda_name(name: str) -> str:
    """Return the name under which Python packages are listed for a package of conda's."""
    normal = normal_name(name)
    return _CONDA_NAMES.get(normal, normal)


def read(path: Path, collected: Collected, *, constraint: bool = False, above: frozenset[Path] = frozenset()) -> None:
    """Add what the requirements file at ``path``, and each file that it includes, asks for."""
    place = path.resolve()
    if place in above:  # files that include each other: pip reads each once too
        return
    text = texts.read(path, "the name of a requirements file that is here")
    for number, line in _lines(text):
        at = f"{path.name}, line {number}" if above else f"{collected.source}, line {number}"
        if line.startswith("-"):
            _option(line, path, collected, at, constraint=constraint, above=above | {place})
        elif constraint:
            collected.constraints.append(_without_options(line))
        else:
            _requirement(line, path.parent, collected, at)


def _lines(text: str) -> Iterable[tuple[int, str]]:
    """Yield the number and the text of each line without comments; a line that ends in a backslash goes on."""
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
    text = _without_options(line)
    hashes = tuple(each.lower() for each in _HASH.findall(line))
    if hashes and (name := re.match(r"[A-Za-z0-9][\w.-]*", text)):
        collected.hashes[normal_name(name[0])] = hashes
    collected.add(text, folder, at=at)


def _without_options(line: str) -> str:
    return _OF_A_REQUIREMENT.split(line)[0].strip()


def _option(line: str, path: Path, collected: Collected, at: str, *, constraint: bool, above: frozenset[Path]) -> None:
    head, value = _split(line)
    name = _LONG.get(head, head)
    if name in {"--requirement", "--constraint"}:
        if "://" in value:
            problem = Problem(f"{at}: {value} is an address", "download the file and name it here instead")
            collected.problems.append(problem)
            return
        try:
            read(path.parent / value, collected, constraint=constraint or name == "--constraint", above=above)
        except UserError as error:
            collected.problems.append(
                Problem(f"{at}: {error.what}", f"correct {head} {shlex.quote(value)}, or remove it")
            )
    elif name == "--editable":
        collected.add(value, path.parent, at=at, editable=True)
    elif name in _FOR_THE_INSTALLER:
        near = path.parent / value
        collected.options += [name, str(near.absolute()) if name == "--find-links" and near.exists() else value]
    elif name in _SWITCHES:
        collected.options.append(name)
    elif name in _LEFT_OUT:
        collected.notes.append(f"{at}: {name} is left out")
    elif name not in _GRANTED:
        hint = "remove the line, or start with --no-install"
        collected.problems.append(Problem(f"{at}: {head} is no option of a requirements file", hint))


def _split(line: str) -> tuple[str, str]:
    """Return an option and its value: ``--name value``, ``--name=value``, ``-n value`` and ``-nvalue`` alike."""
    found = re.match(r"(--[\w-]+|-\w)\s*=?\s*(.*)$", line)
    if found is None:
        return line, ""
    value = found[2].strip()
    try:
        words = shlex.split(value)
    except ValueError:  # a quotation mark that is not closed is a part of the name
        words = []
    return found[1], words[0] if len(words) == 1 else value
