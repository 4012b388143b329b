"""The snapshots of one session: their steps, their names, and the events for the session."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from supervisor.core.checkpoint.file_manifest import FILE
from supervisor.core.session import events as ev
from supervisor.core.unmodified import file_patterns, resume_file, save_groups
from supervisor.core.unmodified.resume_file import FoundFile
from supervisor.core.unmodified.save_groups import SaveGroup
from supervisor.core.wire import messages
from supervisor.engine.unmodified import snapshot as file_snapshot
from supervisor.engine.unmodified.bundle import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from supervisor.core.ports import Clock
    from supervisor.engine.file_watch.scan import FileMark

STALL_SECTION = "save"
SAVES_KEPT = 32  # from which companions of a save are learned
BEATS_KEPT = 2000


class SnapshotSeries:
    """``seen``: marks of the files when they were last staged; ``base_step``: step of the restored snapshot.

    ``last_step``: step of this session's last snapshot, -1 for none; no later one has a lower number. Heartbeats and
    reports come from the channel's thread; ``stage`` is called on one thread at a time.
    """

    def __init__(
        self, staging: Path, clock: Clock, staged: Callable[[Path], None], inbox: Callable[[ev.Event], None]
    ) -> None:
        self.staging, self.clock = staging, clock
        self.known = Known()
        self.seen: Mapping[str, FileMark] = {}
        self.base_step, self.last_step = 0, -1
        self.checkpoint = ""
        self.section = ""
        self.whole: Callable[[Mapping[str, FileMark]], None] = lambda _files: None  # receives the new complete files
        self._staged, self._inbox = staged, inbox
        self._reported_saves: dict[str, int | None] = {}
        self._saves: list[SaveGroup] = []
        self._report_times: deque[tuple[float, int | None]] = deque(maxlen=SAVES_KEPT)
        self._beat: messages.Heartbeat | None = None
        self._saving_s = self._stalled_s = 0.0
        self._framework = ""
        self._counts = False
        self._done_before = -1  # the step of a snapshot of this session whose steps are repeated
        self._numbered = ""  # the label of the last snapshot if it was a number in a name
        self._sequences: dict[int, int] = {}
        self._passed: deque[tuple[float, int]] = deque(maxlen=BEATS_KEPT)

    def resume_from(self, known: Known, step: int, checkpoint: str, *, ours: bool = False) -> None:
        """Continue from a restored snapshot; ``ours``: this session took it."""
        self.known, self.seen, self.checkpoint = known, known.seen, checkpoint
        self.base_step = step
        if ours:
            self.last_step = max(self.last_step, step)

    def restart_steps(self) -> None:
        """Restart the step count: the script does not resume from that snapshot.

        The steps up to one of this session's snapshots are then repeated. Until the script is beyond it, no new
        snapshot is taken.
        """
        self.base_step, self._done_before = 0, self.last_step

    def attempt_started(self) -> None:
        """Start another attempt: messages of the previous one do not apply to it."""
        self._reported_saves.clear()
        self._saves = []
        self._report_times.clear()
        self._passed.clear()
        self._beat, self.section, self._framework = None, "", ""
        self._saving_s = self._stalled_s = 0.0
        self._numbered = ""

    def on_message(self, message: messages.Heartbeat | messages.Hello) -> None:
        """Take in step and section."""
        if isinstance(message, messages.Hello):
            self._framework = message.framework
            return
        self._beat, self.section = message, message.section
        self._counts = self._counts or message.step > self.base_step
        self._passed.append((self.clock.now().wall_s, message.step))
        self._saving_s = message.seconds.get(STALL_SECTION, 0.0)

    def on_saved(self, path: str, step: int | None) -> None:
        """Note the framework's report of a save, by its path relative to the root."""
        self._reported_saves.pop(path, None)
        self._reported_saves[path] = step
        self._saves = [*self._saves[1 - SAVES_KEPT :], SaveGroup(path, step)]
        self._report_times.append((self.clock.now().mono_s, step))

    def no_step_within(self, within_s: float) -> bool:
        """Return True if no step was done since the saves of the last ``within_s`` seconds: more of them may come.

        Saves of two steps show a running loop, even before the later step's heartbeat.
        """
        if self._beat is None or not self._saves:
            return False
        step, since_s = self._saves[-1].step, self.clock.now().mono_s - within_s
        others = {at_step for at_s, at_step in self._report_times if at_s >= since_s}
        return step is not None and self._beat.step <= step and others <= {step}

    @property
    def expects_more_files(self) -> bool:
        """True if files that came with the last save each time before are missing."""
        known = save_groups.grouped(list(self._saves))
        over = self._beat is not None and bool(known) and self._beat.step > (known[-1][0].step or self._beat.step)
        return bool(known) and not over and not save_groups.is_complete(known[-1], known[:-1])

    def stage(self, request: file_snapshot.SnapshotRequest, *, reason: str, growing: Collection[str] = ()) -> None:
        """Take the requested snapshot (step, name and newest checkpoint are found here) and report it to the session.

        Steps that the script only repeats are not snapshotted. Raises ChangedMeanwhile and OSError, with nothing
        staged.
        """
        began = self.clock.now()
        there = {part for path in request.scan for part in _and_above(path)}
        on_saved = {path: at_step for path, at_step in list(self._reported_saves.items()) if path in there}
        fresh = file_snapshot.changed(request.scan, self.seen, growing=growing) - set(request.left_out)
        written = [path for path in on_saved if path not in request.left_out]
        new = _first(request.scan, fresh, written)
        checkpoint = self._newest(new, request.scan, fresh, written)
        times = [
            request.scan[path].mtime_ns for path in fresh if path in request.scan and request.scan[path].kind == FILE
        ]
        step, counted = self._label(new, on_saved, max(times, default=None), ended=request.ended)
        if counted and step <= self._done_before and not request.ended:
            return
        # the heartbeats lag behind a save that reported its step
        if step < self.last_step and self._is_at(self.last_step):
            step = self.last_step
        elif step < self.last_step:  # it began again: the later one must be the newer one, and its number is no step
            step, counted = self.last_step + 1, False
        sequence = self._sequences.get(step, 0) + 1
        name = f"step-{step:09d}-{sequence}"
        about = {**self._about(), **request.about}
        request = replace(request, step=step, name=name, checkpoint=checkpoint, about=about, counted=counted)
        taken = file_snapshot.take(request, self.known)
        self.known, self.last_step, self.checkpoint = taken.known, step, checkpoint
        self._numbered = new if new and not counted and file_patterns.step_of(new) == step else ""
        self._sequences[step] = sequence
        self.seen = {**taken.known.seen, **{p: self.seen[p] for p in request.left_out if p in self.seen}}
        for path, at_step in on_saved.items():
            if self._reported_saves.get(path, -1) == at_step:
                self._reported_saves.pop(path, None)
        folder = self.staging / name
        self._staged(folder)
        stall_s, self._stalled_s = max(0.0, self._saving_s - self._stalled_s), self._saving_s
        write_s = self.clock.now().since(began)
        message = messages.CheckpointStaged(
            step, str(folder), taken.bytes, reason, stall_s, write_s, step_known=counted
        )
        self._inbox(ev.TrainerMessage(message))

    def report_failure(self, error: OSError) -> None:
        """Report to the session that a snapshot could not be written."""
        self._inbox(
            ev.TrainerMessage(
                messages.SaveFailed(max(self.last_step, self.base_step) + 1, f"its files could not be copied: {error}")
            )
        )

    def report_defect(self, error: str) -> None:
        """Report a defect to the session."""
        self._inbox(ev.InternalError(error))

    def notify(self, level: str, words: str) -> None:
        """Report to the user."""
        self._inbox(ev.TrainerMessage(messages.TrainerNote(level, words)))

    def _newest(self, new: str, scan: Mapping[str, FileMark], fresh: Collection[str], on_saved: Sequence[str]) -> str:
        """Return the checkpoint to resume from: the new one, or the previous one if the new file is only a companion."""
        if not _still_present(self.checkpoint, scan):
            return new
        before = {path for path in scan if path.startswith(self.checkpoint)}
        return (
            _first(scan, {*fresh, *before}, [self.checkpoint, *on_saved] if on_saved else [])
            if new
            else self.checkpoint
        )

    def _label(
        self, new: str, on_saved: Mapping[str, int | None], newest_ns: int | None, *, ended: bool
    ) -> tuple[int, bool]:
        """Return the step of the new files, and True if it was counted; else it is a number in a name, or the next one.

        The step of a hook counts first, then the heartbeats up to the time of the file. One scale holds for a run: with
        counted steps, names are ignored. The last snapshot of an ended script belongs to its last save.
        """
        whole = ended or not new
        message = [
            step for path, step in on_saved.items() if step is not None and (whole or file_patterns.within(path, {new}))
        ]
        if message:
            return max(message), True
        if self._counts:
            return self._step_at(newest_ns), True
        number = file_patterns.step_of(new) or 0 if new else 0
        if number == self.last_step and self._numbered not in {"", new}:
            return number, False  # another file with the number of the last one
        return max(number, self.last_step + 1, self.base_step + 1), False

    def _is_at(self, step: int) -> bool:
        """Return True if the attempt has reached this step by its last message."""
        on_saved = self._report_times[-1][1] if self._report_times else None
        return max(on_saved or 0, self._beat.step if self._beat else 0) >= step and self._counts

    def _step_at(self, mtime_ns: int | None) -> int:
        """Return the lowest possible step at the time of the newest file: that of the last heartbeat before it."""
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
            "epoch_of_data": beat.epoch,
            "metrics": metrics,
            "made_by": made_by,
        }


def _first(scan: Mapping[str, FileMark], among: Collection[str], on_saved: Sequence[str]) -> str:
    files = {
        path: FoundFile(scan[path].size, scan[path].mtime_ns)
        for path in among
        if path in scan and scan[path].kind == FILE
    }
    best = resume_file.ranked(files, on_saved)
    return best[0].paths[""] if best else ""


def _and_above(path: str) -> list[str]:
    """Return a path and its parent folders."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _finite(value: object) -> bool:
    return not isinstance(value, float) or (value == value and abs(value) != float("inf"))  # noqa: PLR0124


def _still_present(checkpoint: str, scan: Mapping[str, FileMark]) -> bool:
    return bool(checkpoint) and any(path.startswith(checkpoint) for path in scan)
