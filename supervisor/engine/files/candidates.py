"""Which checkpoint of its own a script is started with, and which one next if it fails on that before its first step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core import choosing, naming, resume_arguments
from supervisor.core.carried import FILE
from supervisor.core.choosing import Found
from supervisor.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.carried import Carried
    from supervisor.core.choosing import Choice

NOT_ITS_FAULT = frozenset({"refused", "device-oom", "outage"})  # another checkpoint would meet the same


class Candidates:
    """The choices among the files of one snapshot. ``say(level, words)`` tells the user."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._folder = ""
        self._carried: Carried | None = None
        self._tried: list[str] = []
        self._now: Choice | None = None
        self._next: Choice | None = None
        self._arguments: tuple[str, ...] = ()

    def of(self, folder: str, carried: Carried) -> None:
        """The files are those of this snapshot now; the same one again keeps what was tried."""
        if folder != self._folder:
            self._folder, self._carried = folder, carried
            self._tried.clear()
            self._next = None

    def arguments(self, template: str, root: Path, step: int) -> tuple[str, ...]:
        """Return what ``--resume-args`` adds, and say it; nothing where no file fits it.

        Raises UserError where it asks for an epoch that the name of the chosen file does not tell.
        """
        self._now, self._arguments = None, ()
        carried = self._carried
        if not template or carried is None:
            return ()
        patterns = resume_arguments.patterns(template)
        chosen = self._next or next(iter(self._choices(patterns)), None)
        asks_for_epoch = resume_arguments.needs_epoch(template)
        if chosen is None and (asks_for_epoch or resume_arguments.needs_checkpoint(template)):
            fits = (
                f"no file fits {' and '.join(filter(None, patterns))}"
                if any(patterns)
                else "no checkpoint of the script's own"
            )
            self._say("warning", f"{fits} is among its files: --resume-args is left out")
            return ()
        epoch = None if chosen is None else naming.epoch_of(next(iter(chosen.paths.values())))
        if asks_for_epoch and chosen is not None and epoch is None:
            raise self._no_epoch(chosen, step)
        folder = "" if chosen is None else str(root / _folder_of(next(iter(chosen.paths.values())), carried))
        values = {"step": str(step), "epoch": str(epoch), "watch": str(root), "folder": folder}
        found = resume_arguments.filled(
            template, lambda name, pattern: values.get(name) or str(root / (chosen.paths[pattern] if chosen else ""))
        )
        self._now, self._arguments = chosen, found
        return found

    @property
    def rule(self) -> str:
        """By which rule the checkpoint was chosen, as words behind the arguments; "" where none was."""
        return "" if self._now is None else f" ({self._now.named}: {self._now.rule})"

    def failed(self, kind: str, words: str) -> bool:
        """The script ended on it before its first step: the next choice is tried, and said. Return whether there is one."""
        now, self._now = self._now, None
        if not self._arguments or kind in NOT_ITS_FAULT:
            return False
        added = " ".join(self._arguments)
        if kind == "setup" or now is None:
            self._say("warning", f"{words}: --resume-args had added {added}")
            return False
        self._tried.append(now.named)
        patterns = tuple(now.paths)
        left = [each for each in self._choices(patterns) if each.named not in self._tried]
        self._next = left[0] if left else None
        chosen = f"{now.named} was chosen by --resume-args: {now.rule}"
        if self._next is not None:
            self._say("warning", f"the script failed with {words}; trying {self._next.named} ({chosen})")
        else:
            self._say("warning", f"the script failed with {words}; no other checkpoint is left to try ({chosen})")
        return self._next is not None

    def _no_epoch(self, chosen: Choice, step: int) -> UserError:
        """Return the two lines for a file whose name has no number: a wrong epoch would train on at a wrong place."""
        paths = [path for choice in self._choices(("",)) for path in choice.paths.values()]
        numbered = next((path.rpartition("/")[2] for path in paths if naming.epoch_of(path) is not None), "")
        instead = f"{{checkpoint:{re.sub(r'[0-9]+', '*', numbered)}}}, which has a number, " if numbered else ""
        return UserError(
            f"--resume-args asks for {{epoch}}, and the name of the chosen checkpoint, {chosen.named}, has no number",
            f"write {instead}{{step}} for the step or snapshot, which is {step}, or the epoch itself in the place of {{epoch}}",
        )

    def _choices(self, patterns: tuple[str, ...]) -> list[Choice]:
        carried = self._carried
        if carried is None:
            return []
        files = {
            entry.path: Found(entry.piece.bytes, entry.mtime_ns)
            for entry in carried.entries
            if entry.kind == FILE and entry.piece is not None
        }
        return choosing.choices(files, patterns, carried.checkpoint)


def _folder_of(path: str, carried: Carried) -> str:
    """Return the checkpoint itself where it is a folder, else the folder that it lies in."""
    is_folder = any(entry.path.startswith(f"{path}/") for entry in carried.entries)
    return path if is_folder else path.rpartition("/")[0]
