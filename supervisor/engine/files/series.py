"""The snapshots that one session takes of a script's files: their steps, their names, and how the session hears of them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core import choosing, messages, moments, naming
from supervisor.core import events as ev
from supervisor.core.carried import FILE
from supervisor.core.choosing import Found
from supervisor.core.moments import Save
from supervisor.engine.files import snapshots
from supervisor.engine.files.drafting import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Clock
    from supervisor.engine.files.scanning import Seen

STALL_SECTION = "save"
SAVES_KEPT = 32  # from which is learned what comes together
BEATS_KEPT = 2000


class Series:
    """``seen``: how the files looked when they were last safe here; ``base_step``: of the snapshot that was put back.

    ``last_step``: of the last snapshot of this session, -1 for none: no later one is numbered lower.
    Beats and reports come from the channel's thread, ``stage`` is called on one thread at a time.
    """

    def __init__(
        self, staging: Path, clock: Clock, staged: Callable[[Path], None], inbox: Callable[[ev.Event], None]
    ) -> None:
        self.staging, self.clock = staging, clock
        self.known = Known()
        self.seen: Mapping[str, Seen] = {}
        self.base_step, self.last_step = 0, -1
        self.checkpoint = ""
        self.section = ""
        self.whole: Callable[[Mapping[str, Seen]], None] = lambda _files: None  # hears which new files are whole
        self._staged, self._inbox = staged, inbox
        self._told: dict[str, int | None] = {}
        self._saves: list[Save] = []
        self._told_at: deque[tuple[float, int | None]] = deque(maxlen=SAVES_KEPT)
        self._beat: messages.Beat | None = None
        self._saving_s = self._stalled_s = 0.0
        self._framework = ""
        self._counts = False
        self._done_before = -1  # the step of a snapshot of this session whose steps are done again
        self._numbered = ""  # what the last snapshot was labelled by, where that was a number in a name
        self._sequences: dict[int, int] = {}
        self._passed: deque[tuple[float, int]] = deque(maxlen=BEATS_KEPT)

    def goes_on(self, known: Known, step: int, checkpoint: str, *, ours: bool = False) -> None:
        """The files are now what this snapshot holds; ``ours``: it is one of this session."""
        self.known, self.seen, self.checkpoint = known, known.seen, checkpoint
        self.base_step = step
        if ours:
            self.last_step = max(self.last_step, step)

    def begins_again(self) -> None:
        """The script does not go on from that snapshot: its steps count from its first.

        Of a snapshot of this session it does all steps again: until it is beyond that one, nothing newer is there to take.
        """
        self.base_step, self._done_before = 0, self.last_step

    def attempt(self) -> None:
        """Another attempt begins: what the one before said does not hold for it."""
        self._told.clear()
        self._saves = []
        self._told_at.clear()
        self._passed.clear()
        self._beat, self.section, self._framework = None, "", ""
        self._saving_s = self._stalled_s = 0.0
        self._numbered = ""

    def heard(self, message: messages.Beat | messages.Hello) -> None:
        """Learn the step and the section."""
        if isinstance(message, messages.Hello):
            self._framework = message.framework
            return
        self._beat, self.section = message, message.section
        self._counts = self._counts or message.step > self.base_step
        self._passed.append((self.clock.now().wall_s, message.step))
        self._saving_s = message.seconds.get(STALL_SECTION, 0.0)

    def told(self, path: str, step: int | None) -> None:
        """The script's framework says that it has saved this, by its path relative to the root."""
        self._told.pop(path, None)
        self._told[path] = step
        self._saves = [*self._saves[1 - SAVES_KEPT :], Save(path, step)]
        self._told_at.append((self.clock.now().mono_s, step))

    def stands(self, within_s: float) -> bool:
        """Say whether no step was done since the saves of the last ``within_s`` seconds: more of them may come.

        Saves of two steps show a loop that goes on, though no beat of the later step was heard yet.
        """
        if self._beat is None or not self._saves:
            return False
        step, since_s = self._saves[-1].step, self.clock.now().mono_s - within_s
        others = {at_step for at_s, at_step in self._told_at if at_s >= since_s}
        return step is not None and self._beat.step <= step and others <= {step}

    @property
    def awaits_more(self) -> bool:
        """Whether files that came with the last save each time before are not there yet."""
        known = moments.grouped(list(self._saves))
        over = self._beat is not None and bool(known) and self._beat.step > (known[-1][0].step or self._beat.step)
        return bool(known) and not over and not moments.is_complete(known[-1], known[:-1])

    def stage(self, order: snapshots.Order, *, reason: str, growing: Collection[str] = ()) -> None:
        """Take the snapshot of ``order`` (its step, name and newest checkpoint are found here) and tell the session.

        Nothing is taken of steps that the script only does again. Raises ChangedMeanwhile and OSError: then nothing was staged.
        """
        began = self.clock.now()
        there = {part for path in order.scan for part in _and_above(path)}
        told = {path: at_step for path, at_step in list(self._told.items()) if path in there}
        fresh = snapshots.changed(order.scan, self.seen, growing=growing) - set(order.left_out)
        written = [path for path in told if path not in order.left_out]
        new = _first(order.scan, fresh, written)
        checkpoint = self._newest(new, order.scan, fresh, written)
        times = [order.scan[path].mtime_ns for path in fresh if path in order.scan and order.scan[path].kind == FILE]
        step, counted = self._label(new, told, max(times, default=None), ended=order.ended)
        if counted and step <= self._done_before and not order.ended:
            return
        if step < self.last_step and self._is_at(self.last_step):  # the beats are behind a save that told its step
            step = self.last_step
        elif step < self.last_step:  # it began again: the later one must be the newer one, and its number is no step
            step, counted = self.last_step + 1, False
        sequence = self._sequences.get(step, 0) + 1
        name = f"step-{step:09d}-{sequence}"
        about = {**self._about(), **order.about}
        order = replace(order, step=step, name=name, checkpoint=checkpoint, about=about, counted=counted)
        taken = snapshots.take(order, self.known)
        self.known, self.last_step, self.checkpoint = taken.known, step, checkpoint
        self._numbered = new if new and not counted and naming.step_of(new) == step else ""
        self._sequences[step] = sequence
        self.seen = {**taken.known.seen, **{p: self.seen[p] for p in order.left_out if p in self.seen}}
        for path, at_step in told.items():
            if self._told.get(path, -1) == at_step:
                self._told.pop(path, None)
        folder = self.staging / name
        self._staged(folder)
        stall_s, self._stalled_s = max(0.0, self._saving_s - self._stalled_s), self._saving_s
        write_s = self.clock.now().since(began)
        said = messages.Staged(step, str(folder), taken.bytes, reason, stall_s, write_s, counted=counted)
        self._inbox(ev.TrainerSaid(said))

    def failed(self, error: OSError) -> None:
        """Tell the session that a snapshot could not be written."""
        self._inbox(
            ev.TrainerSaid(
                messages.SaveFailed(max(self.last_step, self.base_step) + 1, f"its files could not be copied: {error}")
            )
        )

    def broken(self, error: str) -> None:
        """Tell the session of a defect."""
        self._inbox(ev.ControllerFailed(error))

    def say(self, level: str, words: str) -> None:
        """Tell the user."""
        self._inbox(ev.TrainerSaid(messages.Note(level, words)))

    def _newest(self, new: str, scan: Mapping[str, Seen], fresh: Collection[str], told: Sequence[str]) -> str:
        """Return the checkpoint to go on from: a new one, or the one before where the new one is but a part beside it."""
        if not _still_there(self.checkpoint, scan):
            return new
        before = {path for path in scan if path.startswith(self.checkpoint)}
        return _first(scan, {*fresh, *before}, [self.checkpoint, *told] if told else []) if new else self.checkpoint

    def _label(
        self, new: str, told: Mapping[str, int | None], newest_ns: int | None, *, ended: bool
    ) -> tuple[int, bool]:
        """Return the step of what is new, and whether anybody counted it; else it is a number in a name, or the next.

        What its hook says counts first, then the beats up to the time of the file. One scale holds for a run: names
        say nothing where steps are counted. The last snapshot of a script that has ``ended`` is of its last save.
        """
        whole = ended or not new
        said = [step for path, step in told.items() if step is not None and (whole or naming.within(path, {new}))]
        if said:
            return max(said), True
        if self._counts:
            return self._step_at(newest_ns), True
        number = naming.step_of(new) or 0 if new else 0
        if number == self.last_step and self._numbered not in {"", new}:
            return number, False  # another file with the number that the last one had
        return max(number, self.last_step + 1, self.base_step + 1), False

    def _is_at(self, step: int) -> bool:
        """Say whether the attempt has come to this step by what it has told last."""
        told = self._told_at[-1][1] if self._told_at else None
        return max(told or 0, self._beat.step if self._beat else 0) >= step and self._counts

    def _step_at(self, mtime_ns: int | None) -> int:
        """Return the step that was done when the newest file was written, at least: as the last beat before it says."""
        passed = list(self._passed)
        if mtime_ns is None or not passed:
            return passed[-1][1] if passed else self.base_step
        before = [step for at_s, step in passed if at_s <= mtime_ns / 1e9]
        return before[-1] if before else self.base_step

    def _about(self) -> dict[str, Any]:
        beat = self._beat
        made_by = {"framework": self._framework} if self._framework else {}
        if beat is None:
            return {"total_steps": None, "epoch_of_data": None, "metrics": {}, "made_by": made_by}
        metrics = {name: value for name, value in beat.metrics.items() if _finite(value)}
        return {
            "total_steps": beat.total_steps,
            "epoch_of_data": beat.epoch_of_data,
            "metrics": metrics,
            "made_by": made_by,
        }


def _first(scan: Mapping[str, Seen], among: Collection[str], told: Sequence[str]) -> str:
    files = {
        path: Found(scan[path].size, scan[path].mtime_ns) for path in among if path in scan and scan[path].kind == FILE
    }
    best = choosing.ranked(files, told)
    return best[0].paths[""] if best else ""


def _and_above(path: str) -> list[str]:
    """Return a path and the folders that it lies in."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _finite(value: object) -> bool:
    return not isinstance(value, float) or (value == value and abs(value) != float("inf"))  # noqa: PLR0124


def _still_there(checkpoint: str, scan: Mapping[str, Seen]) -> bool:
    return bool(checkpoint) and any(path.startswith(checkpoint) for path in scan)
