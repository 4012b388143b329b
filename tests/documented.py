"""The commands that README and the documents name: what a reader may paste into a shell, or into a notebook's cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from supervisor.cli import TABLE

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("python", "python3", "training-supervisor", "pip", "git", "make", "exec", "srun")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S+ ")
_COMMENT = re.compile(r"\s+#\s.*")
_LANGUAGES = frozenset({"", "sh", "bash", "console", "shell"})


@dataclass(frozen=True, order=True)
class Command:
    """One command as it stands in a document; ``verb``: it stands there without ``python3 -m supervisor`` before it."""

    words: str
    document: str
    verb: bool = False


def documents() -> list[Path]:
    """README, the pages of docs/ and the example's page."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "hyperlpr_example" / "README.md"]


def commands() -> list[Command]:
    """Every command of every document, each once a document, in their order."""
    found = [each for path in documents() for each in commands_of(path.read_text(), path.relative_to(ROOT).as_posix())]
    return list(dict.fromkeys(found))


def commands_of(text: str, document: str) -> list[Command]:
    """The commands of one document: lines of its shell blocks, and spans of code that begin as a command does."""
    found = []
    for block in _FENCE.finditer(text):
        if block[1] in _LANGUAGES:
            found += [Command(words, document) for words in _block_lines(block[2])]
    for span in _SPAN.finditer(_FENCE.sub("", text)):
        words = span[1].strip()
        if _is_command(words):
            found.append(Command(words, document))
        elif _is_verb(words):
            found.append(Command(words, document, verb=True))
    return found


def _block_lines(block: str) -> list[str]:
    lines = block.splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")]
    return [words for line in typed or lines if _is_command(words := _COMMENT.sub("", line).strip())]


def _is_command(words: str) -> bool:
    bare = _ASSIGNMENT.sub("", words)
    if bare.startswith("… "):  # it goes on where the span before it ended
        return bool(re.match(r"… (--\S+|\w+) \S", bare))
    program, _, rest = bare.partition(" ")
    return rest not in {"", "-m", "clone", "install"} and (program in PROGRAMS or program.startswith("%"))


def _is_verb(words: str) -> bool:
    """Whether it is a verb with a script or with a run's name, as in ``start train.py --watch DIR``."""
    verb, _, rest = words.partition(" ")
    return verb in TABLE and bool(re.match(r"[\w./-]+\.py\b", rest))
