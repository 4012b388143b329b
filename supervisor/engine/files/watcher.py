"""Watches the files of one attempt, and has a snapshot taken when something is new and all of it is whole and still."""

from __future__ import annotations

import os
import traceback
from threading import Event as Flag
from threading import RLock, Thread, Timer, get_native_id
from typing import TYPE_CHECKING

from supervisor.core import naming
from supervisor.core.carried import FILE, LINK
from supervisor.core.values import dataclass
from supervisor.engine.files import noticing, scanning, snapshots
from supervisor.engine.files.copying import ChangedMeanwhile
from supervisor.engine.files.open_files import opened_for_writing
from supervisor.engine.files.stillness import QUIET_S, Stillness
from supervisor.engine.lane import NICE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from supervisor.engine.files.scanning import Seen
    from supervisor.engine.files.series import Series

GROUP_WAIT_S = 5.0  # for all files to be still at once; after that each that was closed counts as still
TOGETHER_S, TOGETHER_S_MAX = 0.5, 1.0  # after a save that is told, for the next that belongs to it; and in all
COMPANIONS_S = 20.0  # at most, for the files that came with a save each time before
LEAVE_OUT_S = 120.0  # for a file that is never still
RETRY_S = 30.0
EVERY_S_MIN = 10.0
COST_FACTOR = 20.0  # in "auto", a snapshot is written at most so many times its own time apart
IDLE_S, POLL_S, PAUSE_S = 30.0, 2.0, 0.2
SCAN_SHARE = 10.0  # of the time, at most one part in so many goes into looking
FAREWELL_S = 5.0
LAST_TRIES = 5
SPECIAL = "is neither file, folder nor link: it is not carried"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is watched: ``root``, as the user calls it; the trainer's process; ``every_s`` between snapshots, None: as fits."""

    root: Path
    called: str
    leader: int
    every_s: float | None = None
    listens: bool = True
    quiet_s: float = QUIET_S


class Watcher:
    """``turn`` is one look; a thread of its own makes them, woken by what the system tells. ``paths`` None: all of the root."""

    def __init__(self, scene: Scene, series: Series, paths: Callable[[], Collection[str] | None]) -> None:
        self.scene, self.series = scene, series
        self._paths = paths
        self._still = Stillness(scene.quiet_s)
        self._noticing: noticing.Noticing | None = None
        self._inode = 0
        self._lock = RLock()
        self._woken, self._over = Flag(), Flag()
        self._thread = Thread(target=self._run, name="files", daemon=True)
        self._wanted_s: float | None = None
        self._next_s = 0.0
        self._told_s = -TOGETHER_S
        self._hurried = False
        self._whole: dict[str, Seen] | None = None
        self._farewell: Callable[[], object] | None = None
        self._said: set[str] = set()

    def begin(self) -> None:
        """Watch from now on: what is there was there before the script."""
        self._still.begin(self._scan())
        if not self.scene.listens:
            self._told_s = self.series.clock.now().mono_s  # a save is what it begins with
        self._thread.start()

    def wake(self) -> None:
        """Look soon."""
        self._woken.set()

    def hurry(self) -> None:
        """Take a snapshot as soon as all is whole, however young the last one is."""
        self._hurried = True
        self._woken.set()

    def before_stop(self, tell: Callable[[], object], within_s: float) -> None:
        """Call ``tell`` when what is new is safe here, or the time is over: who hears it may end in the midst of a file."""
        self._farewell = tell
        timer = Timer(min(FAREWELL_S, within_s), self._tell_now)
        timer.daemon = True
        timer.start()
        self.hurry()

    def end(self, *, trusted: bool) -> None:
        """The script is gone. ``trusted``: it ended by itself, so all is whole; else only what was seen to be so before."""
        self._over.set()
        self._woken.set()
        with self._lock:
            if self._noticing is not None:
                self._noticing.end()
            self._tell_now()
            try:
                self._take_last(trusted=trusted)
            except OSError as error:
                self.series.failed(error)

    def stop(self) -> None:
        """Watch no more, and take nothing more."""
        self._over.set()
        self._woken.set()
        if self._noticing is not None:
            self._noticing.end()

    def turn(self) -> float:
        """Look once; return in how many seconds to look again."""
        with self._lock:
            if self._over.is_set():
                return IDLE_S
            now_s = self.series.clock.now().mono_s
            wait_s, settled = self._look(now_s)
            if settled:
                self._tell_now()
            return wait_s

    def saved(self, path: str) -> None:
        """The script's framework says that it has written and closed what lies at this path, relative to the root."""
        now_s = self._told_s = self.series.clock.now().mono_s
        for each in scanning.scan(self.scene.root, {path}):
            self._still.closed(each, now_s)
        self._woken.set()

    def told(self, path: str, *, closed: bool) -> None:
        """The system says that something happened to a path."""
        inside = os.path.relpath(path, self.scene.root)
        if not inside.startswith(".."):
            now_s = self.series.clock.now().mono_s
            (self._still.closed if closed else self._still.touched)(inside, now_s)
            self._woken.set()

    def _tell_now(self) -> None:
        tell, self._farewell = self._farewell, None
        if tell is not None:
            tell()

    def _look(self, now_s: float) -> tuple[float, bool]:
        """Return when to look again, and whether nothing is left to take."""
        scan = self._scan()
        written, appended = self._opened()
        self._still.look(scan, now_s, opened=written, appended=appended)
        growing = self._still.growing(now_s)
        changes = snapshots.changed(scan, self.series.seen, growing={*appended, *growing})
        busy = self._still.busy(now_s)
        if not changes or not any(seen.kind == FILE for seen in scan.values()):
            self._wanted_s = None
            return (self._still.next_s(now_s) if busy else self._idle_s), not busy
        self._wanted_s = now_s if self._wanted_s is None else self._wanted_s
        waited_s = now_s - self._wanted_s
        hurried = waited_s >= GROUP_WAIT_S or not self.scene.listens  # who reports a file has closed it
        if hurried:
            busy = self._still.busy(now_s, hurried=True)
        busy = {path: since_s for path, since_s in busy.items() if path in scan or not hurried}
        self._say_of(busy)
        if waited_s < LEAVE_OUT_S and any(since_s < LEAVE_OUT_S for since_s in busy.values()):
            return self._still.next_s(now_s), False
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
        """Return in how many seconds to look again because more may belong to what is saved just now, or 0."""
        told_for_s = now_s - self._told_s
        if self.series.section == "save" or (told_for_s < COMPANIONS_S and self.series.awaits_more):
            return TOGETHER_S
        due_s = max(now_s - waited_s, self._next_s)
        more = now_s < due_s + TOGETHER_S_MAX or (
            waited_s < COMPANIONS_S and self.series.stands(waited_s + TOGETHER_S_MAX)
        )
        return max(0.0, TOGETHER_S - told_for_s) if more else 0.0

    def _take(self, scan: dict[str, Seen], left_out: set[str], growing: set[str], now_s: float) -> tuple[float, bool]:
        try:
            self._stage(scan, left_out=left_out, growing=growing, reason="files")
        except ChangedMeanwhile:
            return self.scene.quiet_s, False
        except OSError as error:
            self.series.failed(error)
            self._next_s, self._hurried = now_s + RETRY_S, False
            return RETRY_S, False
        self._wanted_s, self._hurried = None, False
        took_s = self.series.clock.now().mono_s - now_s
        self._next_s = now_s + (self.scene.every_s or max(EVERY_S_MIN, COST_FACTOR * took_s))
        return PAUSE_S, True

    def _stage(
        self, scan: dict[str, Seen], *, reason: str, left_out: Collection[str] = (), growing: Collection[str] = (),
        ended: bool = False,
    ) -> None:  # fmt: skip
        for path, seen in scan.items():
            if seen.kind == scanning.OTHER:
                self._say_once("info", path, f"{path!r} {SPECIAL}")
            elif seen.kind == LINK and self._leads_out(path, seen.target):
                self._say_once(
                    "info", path, f"{path!r} is a link to {seen.target!r}: the link is carried, not what it leads to"
                )
        order = snapshots.Order(
            self.scene.root,
            self.scene.called,
            scan,
            self.series.staging,
            left_out=left_out,
            growing=growing,
            ended=ended,
        )
        self.series.stage(order, reason=reason, growing=growing)

    def _take_last(self, *, trusted: bool) -> None:
        for _ in range(LAST_TRIES):
            scan = self._scan()
            if not any(seen.kind == FILE for seen in scan.values()):
                return
            if not snapshots.changed(scan, self.series.seen, streams=trusted):
                return
            streams = {path for path in scan if naming.is_stream(path)}
            if not trusted and (self._whole is None or snapshots.changed(scan, self._whole)):
                return
            try:
                self._stage(scan, growing=() if trusted else streams, ended=trusted, reason="end")
            except ChangedMeanwhile:
                Flag().wait(PAUSE_S)  # a process that outlived the script is just ending
                continue
            return

    def _scan(self) -> dict[str, Seen]:
        return scanning.scan(self.scene.root, self._paths())

    def _opened(self) -> tuple[set[str], set[str]]:
        opened = opened_for_writing(self.scene.root, self.scene.leader)
        root = os.path.realpath(self.scene.root)
        return {os.path.relpath(path, root) for path in opened.written}, {
            os.path.relpath(path, root) for path in opened.appended
        }

    def _say_of(self, busy: dict[str, float]) -> None:
        for path, since_s in busy.items():
            if since_s >= LEAVE_OUT_S:
                words = f"{path!r} is never still: it is left out of what is saved, until it is"
                self._say_once("warning", path, words)

    def _leads_out(self, path: str, target: str) -> bool:
        root = os.path.normpath(self.scene.root)
        led = os.path.normpath((self.scene.root / path).parent / target)
        return led != root and not led.startswith(f"{root}/")

    def _say_once(self, level: str, path: str, words: str) -> None:
        if path not in self._said:
            self._said.add(path)
            self.series.say(level, words)

    @property
    def _idle_s(self) -> float:
        return IDLE_S if self._noticing is not None and self._noticing.listening else POLL_S

    def _listen(self) -> None:
        try:
            inode = self.scene.root.stat().st_ino
        except OSError:
            return
        known = self._noticing
        if not self.scene.listens or (known is not None and (known.why or (known.listening and inode == self._inode))):
            return
        if known is not None:
            known.end()  # the folder was made anew, or one folder more was too many to be told of
        self._inode = inode
        self._noticing = noticing.begin(self.scene.root, self.told, lambda words: self.series.say("info", words))

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
                wait_s = self.turn()
            except Exception:  # noqa: BLE001, because a defect here must end the session in a named state
                self.series.broken(traceback.format_exc())
                return
            took_s = self.series.clock.now().mono_s - began_s
            self._over.wait(min(2.0, max(PAUSE_S, SCAN_SHARE * took_s)))
