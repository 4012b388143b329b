"""Watches the files of one attempt, and triggers a snapshot when new files are complete and quiescent."""

from __future__ import annotations

import os
import traceback
from threading import Event as Flag
from threading import RLock, Thread, Timer, get_native_id
from typing import TYPE_CHECKING

from supervisor.core.checkpoint.file_manifest import FILE, LINK
from supervisor.core.frozen import dataclass
from supervisor.core.unmodified import file_patterns
from supervisor.engine.file_watch import fs_events
from supervisor.engine.file_watch import scan as folder_scan
from supervisor.engine.file_watch.open_files import opened_for_writing
from supervisor.engine.file_watch.quiescence import QUIET_S, Quiescence
from supervisor.engine.file_watch.stable_copy import ChangedMeanwhile
from supervisor.engine.task_queue import NICE
from supervisor.engine.unmodified import snapshot as file_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from supervisor.engine.file_watch.scan import FileMark
    from supervisor.engine.unmodified.snapshot_series import SnapshotSeries

GROUP_WAIT_S = 5.0  # time for all files to be quiescent at once; after that each closed file counts
TOGETHER_S, TOGETHER_S_MAX = 0.5, 1.0  # time after a reported save for the next one of the same group; and the limit
COMPANIONS_S = 20.0  # longest wait for the usual companions of a save
LEAVE_OUT_S = 120.0  # for a file that is never quiescent
RETRY_S = 30.0
EVERY_S_MIN = 10.0
COST_FACTOR = 20.0  # with "auto", snapshots are at least this many times their own duration apart
IDLE_S, POLL_S, PAUSE_S = 30.0, 2.0, 0.2
SCAN_SHARE = 10.0  # scans take at most one part in so many of the time
FINAL_WAIT_S = 5.0
LAST_TRIES = 5
SPECIAL = "is neither file, folder nor link: it is not carried"


@dataclass(frozen=True, slots=True)
class WatchedAttempt:
    """The watched attempt: its ``root`` as typed by the user, the trainer's process, and ``every_s`` between snapshots."""

    root: Path
    called: str
    leader: int
    every_s: float | None = None
    listens: bool = True
    quiet_s: float = QUIET_S


class Watcher:
    """``poll_once`` makes one check; a thread repeats it and is woken by file events.

    ``paths`` None: all of the root.
    """

    def __init__(
        self, scene: WatchedAttempt, series: SnapshotSeries, paths: Callable[[], Collection[str] | None]
    ) -> None:
        self.scene, self.series = scene, series
        self._paths = paths
        self._quiescence = Quiescence(scene.quiet_s)
        self._event_source: fs_events.FileEventSource | None = None
        self._inode = 0
        self._lock = RLock()
        self._woken, self._over = Flag(), Flag()
        self._thread = Thread(target=self._run, name="files", daemon=True)
        self._wanted_s: float | None = None
        self._next_s = 0.0
        self._last_event_s = -TOGETHER_S
        self._hurried = False
        self._whole: dict[str, FileMark] | None = None
        self._final_snapshot: Callable[[], object] | None = None
        self._reported: set[str] = set()

    def begin(self) -> None:
        """Start watching: files present now are from before the script."""
        self._quiescence.begin(self._scan())
        if not self.scene.listens:
            self._last_event_s = self.series.clock.now().mono_s  # a session begins with a save
        self._thread.start()

    def wake(self) -> None:
        """Check soon."""
        self._woken.set()

    def hurry(self) -> None:
        """Take a snapshot as soon as all files are complete, even soon after the last one."""
        self._hurried = True
        self._woken.set()

    def before_stop(self, tell: Callable[[], object], within_s: float) -> None:
        """Call ``tell`` once new files are staged or the time is over: the trainer may end in the middle of a write."""
        self._final_snapshot = tell
        timer = Timer(min(FINAL_WAIT_S, within_s), self._send_pending)
        timer.daemon = True
        timer.start()
        self.hurry()

    def end(self, *, trusted: bool) -> None:
        """Handle the end of the script.

        ``trusted``: it ended by itself, so all files are complete; else only those seen complete.
        """
        self._over.set()
        self._woken.set()
        with self._lock:
            if self._event_source is not None:
                self._event_source.end()
            self._send_pending()
            try:
                self._take_final(trusted=trusted)
            except OSError as error:
                self.series.report_failure(error)

    def stop(self) -> None:
        """Stop watching; no further snapshot is taken."""
        self._over.set()
        self._woken.set()
        if self._event_source is not None:
            self._event_source.end()

    def poll_once(self) -> float:
        """Check once; return the seconds until the next check."""
        with self._lock:
            if self._over.is_set():
                return IDLE_S
            now_s = self.series.clock.now().mono_s
            wait_s, settled = self._poll(now_s)
            if settled:
                self._send_pending()
            return wait_s

    def on_saved(self, path: str) -> None:
        """Note the framework's report that it wrote and closed the file at this path, relative to the root."""
        now_s = self._last_event_s = self.series.clock.now().mono_s
        for each in folder_scan.scan(self.scene.root, {path}):
            self._quiescence.on_close(each, now_s)
        self._woken.set()

    def on_event(self, path: str, *, closed: bool) -> None:
        """Note a file event."""
        inside = os.path.relpath(path, self.scene.root)
        if not inside.startswith(".."):
            now_s = self.series.clock.now().mono_s
            (self._quiescence.on_close if closed else self._quiescence.on_change)(inside, now_s)
            self._woken.set()

    def _send_pending(self) -> None:
        tell, self._final_snapshot = self._final_snapshot, None
        if tell is not None:
            tell()

    def _poll(self, now_s: float) -> tuple[float, bool]:
        """Return the time of the next check, and True if there is nothing left to take."""
        scan = self._scan()
        written, appended = self._opened()
        self._quiescence.update(scan, now_s, opened=written, appended=appended)
        growing = self._quiescence.growing(now_s)
        changes = file_snapshot.changed(scan, self.series.seen, growing={*appended, *growing})
        busy = self._quiescence.busy(now_s)
        if not changes or not any(seen.kind == FILE for seen in scan.values()):
            self._wanted_s = None
            return (self._quiescence.next_s(now_s) if busy else self._idle_s), not busy
        self._wanted_s = now_s if self._wanted_s is None else self._wanted_s
        waited_s = now_s - self._wanted_s
        # with file events, a reporting writer has closed the file
        hurried = waited_s >= GROUP_WAIT_S or not self.scene.listens
        if hurried:
            busy = self._quiescence.busy(now_s, hurried=True)
        busy = {path: since_s for path, since_s in busy.items() if path in scan or not hurried}
        self._report_busy(busy)
        if waited_s < LEAVE_OUT_S and any(since_s < LEAVE_OUT_S for since_s in busy.values()):
            return self._quiescence.next_s(now_s), False
        if (held_s := self._held_s(now_s, waited_s)) > 0.0:
            return held_s, False
        if not changes - busy.keys():
            return self._idle_s, False
        self._whole = scan if not busy else None
        if not busy:
            self.series.whole({path: scan[path] for path in changes if path in scan})
        if now_s < self._next_s and not self._hurried:
            return self._next_s - now_s, False
        return self._take(scan, set(busy), growing, now_s)

    def _held_s(self, now_s: float, waited_s: float) -> float:
        """Return the seconds until the next check if more files may belong to the present save, or 0."""
        since_event_s = now_s - self._last_event_s
        if self.series.section == "save" or (since_event_s < COMPANIONS_S and self.series.expects_more_files):
            return TOGETHER_S
        due_s = max(now_s - waited_s, self._next_s)
        more = now_s < due_s + TOGETHER_S_MAX or (
            waited_s < COMPANIONS_S and self.series.no_step_within(waited_s + TOGETHER_S_MAX)
        )
        return max(0.0, TOGETHER_S - since_event_s) if more else 0.0

    def _take(
        self, scan: dict[str, FileMark], left_out: set[str], growing: set[str], now_s: float
    ) -> tuple[float, bool]:
        try:
            self._stage(scan, left_out=left_out, growing=growing, reason="files")
        except ChangedMeanwhile:
            return self.scene.quiet_s, False
        except OSError as error:
            self.series.report_failure(error)
            self._next_s, self._hurried = now_s + RETRY_S, False
            return RETRY_S, False
        self._wanted_s, self._hurried = None, False
        took_s = self.series.clock.now().mono_s - now_s
        self._next_s = now_s + (self.scene.every_s or max(EVERY_S_MIN, COST_FACTOR * took_s))
        return PAUSE_S, True

    def _stage(
        self, scan: dict[str, FileMark], *, reason: str, left_out: Collection[str] = (), growing: Collection[str] = (),
        ended: bool = False,
    ) -> None:  # fmt: skip
        for path, seen in scan.items():
            if seen.kind == folder_scan.OTHER:
                self._say_once("info", path, f"{path!r} {SPECIAL}")
            elif seen.kind == LINK and self._leads_out(path, seen.target):
                self._say_once(
                    "info", path, f"{path!r} is a link to {seen.target!r}: the link is carried, not what it leads to"
                )
        order = file_snapshot.SnapshotRequest(
            self.scene.root,
            self.scene.called,
            scan,
            self.series.staging,
            left_out=left_out,
            growing=growing,
            ended=ended,
        )
        self.series.stage(order, reason=reason, growing=growing)

    def _take_final(self, *, trusted: bool) -> None:
        for _ in range(LAST_TRIES):
            scan = self._scan()
            if not any(seen.kind == FILE for seen in scan.values()):
                return
            if not file_snapshot.changed(scan, self.series.seen, streams=trusted):
                return
            streams = {path for path in scan if file_patterns.is_stream(path)}
            if not trusted and (self._whole is None or file_snapshot.changed(scan, self._whole)):
                return
            try:
                self._stage(scan, growing=() if trusted else streams, ended=trusted, reason="end")
            except ChangedMeanwhile:
                Flag().wait(PAUSE_S)  # a process that outlived the script is just ending
                continue
            return

    def _scan(self) -> dict[str, FileMark]:
        return folder_scan.scan(self.scene.root, self._paths())

    def _opened(self) -> tuple[set[str], set[str]]:
        opened = opened_for_writing(self.scene.root, self.scene.leader)
        root = os.path.realpath(self.scene.root)
        return {os.path.relpath(path, root) for path in opened.written}, {
            os.path.relpath(path, root) for path in opened.appended
        }

    def _report_busy(self, busy: dict[str, float]) -> None:
        for path, since_s in busy.items():
            if since_s >= LEAVE_OUT_S:
                words = f"{path!r} is never still: it is left out of what is saved, until it is"
                self._say_once("warning", path, words)

    def _leads_out(self, path: str, target: str) -> bool:
        root = os.path.normpath(self.scene.root)
        led = os.path.normpath((self.scene.root / path).parent / target)
        return led != root and not led.startswith(f"{root}/")

    def _say_once(self, level: str, path: str, words: str) -> None:
        if path not in self._reported:
            self._reported.add(path)
            self.series.notify(level, words)

    @property
    def _idle_s(self) -> float:
        return IDLE_S if self._event_source is not None and self._event_source.listening else POLL_S

    def _listen(self) -> None:
        try:
            inode = self.scene.root.stat().st_ino
        except OSError:
            return
        known = self._event_source
        if not self.scene.listens or (known is not None and (known.why or (known.listening and inode == self._inode))):
            return
        if known is not None:
            known.end()  # the folder was made again, or one folder exceeded the system's limit of watches
        self._inode = inode
        self._event_source = fs_events.listen(
            self.scene.root, self.on_event, lambda words: self.series.notify("info", words)
        )

    def _run(self) -> None:
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
        wait_s = 0.0
        while not self._over.is_set():
            self._woken.wait(wait_s)
            self._woken.clear()
            self._listen()
            began_s = self.series.clock.now().mono_s
            try:
                wait_s = self.poll_once()
            except Exception:  # noqa: BLE001, because a defect here must end the session in a named state
                self.series.report_defect(traceback.format_exc())
                return
            took_s = self.series.clock.now().mono_s - began_s
            self._over.wait(min(2.0, max(PAUSE_S, SCAN_SHARE * took_s)))
