"""Choice of a script's own checkpoint for its start, and of the next one if it fails on that before its first step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.file_manifest import FILE
from supervisor.core.errors import UserError
from supervisor.core.unmodified import file_patterns, resume_arguments, resume_file
from supervisor.core.unmodified.resume_file import FoundFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor.core.checkpoint.file_manifest import FileManifest
    from supervisor.core.unmodified.resume_file import ResumeFileChoice

UNRELATED_FAILURES = frozenset({"refused", "device-oom", "outage"})  # another checkpoint would meet the same


class ResumeCandidates:
    """The candidates among the files of one snapshot. ``say(level, words)`` informs the user."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._folder = ""
        self._carried: FileManifest | None = None
        self._tried: list[str] = []
        self._now: ResumeFileChoice | None = None
        self._next: ResumeFileChoice | None = None
        self._arguments: tuple[str, ...] = ()

    def use_snapshot(self, folder: str, carried: FileManifest) -> None:
        """Use the files of this snapshot from now on. The same snapshot keeps the list of failed candidates."""
        if folder != self._folder:
            self._folder, self._carried = folder, carried
            self._tried.clear()
            self._next = None

    def arguments(self, template: str, root: Path, step: int) -> tuple[str, ...]:
        """Return the arguments added by ``--resume-args``, and report them; nothing if no file fits.

        Raises UserError if it needs an epoch that the chosen file's name does not have.
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
        epoch = None if chosen is None else file_patterns.epoch_of(next(iter(chosen.paths.values())))
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
        """The rule that chose the checkpoint, as text after the arguments; "" if none was chosen."""
        return "" if self._now is None else f" ({self._now.named}: {self._now.rule})"

    def next_after_failure(self, kind: str, words: str) -> bool:
        """Choose and report the next candidate after a failure before the first step. Return True if there is one."""
        now, self._now = self._now, None
        if not self._arguments or kind in UNRELATED_FAILURES:
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

    def _no_epoch(self, chosen: ResumeFileChoice, step: int) -> UserError:
        """Return the two lines for a file without a number in its name: training with a wrong epoch would be wrong."""
        paths = [path for choice in self._choices(("",)) for path in choice.paths.values()]
        numbered = next((path.rpartition("/")[2] for path in paths if file_patterns.epoch_of(path) is not None), "")
        instead = f"{{checkpoint:{re.sub(r'[0-9]+', '*', numbered)}}}, which has a number, " if numbered else ""
        return UserError(
            f"--resume-args asks for {{epoch}}, and the name of the chosen checkpoint, {chosen.named}, has no number",
            f"write {instead}{{step}} for the step or snapshot, which is {step}, or the epoch itself in the place of {{epoch}}",
        )

    def _choices(self, patterns: tuple[str, ...]) -> list[ResumeFileChoice]:
        carried = self._carried
        if carried is None:
            return []
        files = {
            entry.path: FoundFile(entry.piece.bytes, entry.mtime_ns)
            for entry in carried.entries
            if entry.kind == FILE and entry.piece is not None
        }
        return resume_file.choices(files, patterns, carried.checkpoint)


def _folder_of(path: str, carried: FileManifest) -> str:
    """Return the checkpoint itself if it is a folder, else its parent folder."""
    is_folder = any(entry.path.startswith(f"{path}/") for entry in carried.entries)
    return path if is_folder else path.rpartition("/")[0]
