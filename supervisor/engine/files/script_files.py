"""What a session does for a script that nobody changed: its files are put back, watched, and taken into snapshots.

``--watch DIR`` names the folder. Without it, the files and folders count of which the script's framework says that it saved
them, as far as they lie in the working folder. A script that calls attach() needs none of this.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from supervisor.core import choosing, messages, naming, program, resume_arguments, resume_options, state_files
from supervisor.core import events as ev
from supervisor.core.carried import FILE, Entry, Piece
from supervisor.core.choosing import Found
from supervisor.core.content import STATE_FILE, ContentError
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.masking import masked_text
from supervisor.core.values import dataclass
from supervisor.engine import threads
from supervisor.engine.files import (
    discovering,
    protected,
    putting_back,
    scanning,
    script_sources,
    snapshots,
    watched_folder,
)
from supervisor.engine.files.candidates import Candidates
from supervisor.engine.files.discovering import Discovery
from supervisor.engine.files.not_kept import NothingYet, Outside, named
from supervisor.engine.files.scanning import Seen
from supervisor.engine.files.series import Series
from supervisor.engine.files.watcher import Scene, Watcher
from supervisor.engine.files.whole_files import WholeFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from supervisor.core.carried import Carried
    from supervisor.engine.files.whole_files import Newer
    from supervisor.engine.job import Job
    from supervisor.engine.storing import Storing

ASIDE, AT_FIRST, WHOLE, PUT_BACK = "aside", "files-at-first.json", "files-whole.jsonl", "put-back.json"


_NOT_LOADED = {
    "nothing": "no load_state_dict() was seen before that step: `rehearse {script}` tells whether the script really goes on",
    "network": "a network has loaded its state, no optimizer has: moments begin fresh, if it has any",
    "optimizer": "an optimizer has loaded its state, no network has: `rehearse {script}` tells whether the script really goes on",
}


@dataclass(frozen=True, slots=True)
class Resuming:
    """What the next attempt is started with: more arguments, more of its environment, the state it is to restore."""

    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    checkpoint: str


class ScriptFiles:
    """One for each session. ``put_back`` is called on a lane, ``heard`` on the channel's thread, ``ended`` on the waiter's."""

    def __init__(self, job: Job, storing: Storing, inbox: Callable[[ev.Event], None]) -> None:
        self.job, self.storing, self.watch = job, storing, job.watch
        self._inbox = inbox
        self._working = Path.cwd()
        self._attached = self._failed = self._stopping = self._proposed = False
        self._paths: set[str] | None = None if self.watch.called else set()
        self._series: Series | None = None
        self._watcher: Watcher | None = None
        self._counted = True  # the steps of what was put back
        self._observed = False  # in this session something was seen being saved
        self._candidates = Candidates(self._say)
        self._failure = messages.ScriptFailed("script", "", "", "")
        self._stepped = False
        self._pid = 0
        self._restored = ""  # the checkpoint whose files were put back and which is nothing but files
        self._beside = ""  # the same, of one that holds attached state, too
        self._lock = RLock()
        self._notes: WholeFiles | None = None
        self._discovery: Discovery | None = None
        self._shapes: set[str] = set()  # of what was said to be kept
        self._outside = Outside(self._say)
        self._nothing_yet = NothingYet(self._say)
        self._carried: tuple[str, ...] = ()
        self._added: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The watched folder; the working folder where none is."""
        return self.watch.folder if self.watch.called else self._working

    def put_back(self, ready: ev.Event | None) -> ev.Event | None:
        """Make the files what the checkpoint says before it is gone on from; UserError where that cannot be done."""
        if not isinstance(ready, ev.CheckpointReady):
            return ready
        self._restored = self._beside = ""
        try:
            found = putting_back.carried_in(Path(ready.folder)) if ready.folder else None
            if found is not None and ready.id is not None:
                self._put_back(ready, *found)
                if not self._beside:
                    self._counted = found[0].counted
                    ready = replace(ready, files=True, counted=self._counted)
            elif self.watch.called and not ready.folder:
                self._begin_clean()
        except (OSError, ContentError) as error:
            words = f"the files of the script cannot be put back into {self.root}: {error}"
            raise UserError(words, "see to its permissions and its room, and start again", FAILED_PRECHECKS) from error
        return ready

    def resuming(self, checkpoint: str) -> Resuming:
        """Return what an attempt is started with that goes on from this checkpoint ("" for none)."""
        series = self._series
        if self._beside == checkpoint:
            # the later command need not name the folder again: the checkpoint says which one is kept
            return Resuming((), {"SUPERVISOR_RUN_WATCH": self.watch.called} if checkpoint else {}, checkpoint)
        if series is None or not checkpoint or checkpoint != self._restored:
            return Resuming((), {}, checkpoint)
        arguments = self._candidates.arguments(self._template(), self.root, series.base_step)
        if arguments:
            self._say("info", f"the script is started with {shlex.join(arguments)}{self._candidates.rule}")
        listing = self.storing.local.session / PUT_BACK
        listing.write_text(json.dumps([str(self.root / path) for path in self._carried]))
        told = {"SUPERVISOR_RUN_BASE_STEP": str(series.base_step), "SUPERVISOR_RUN_PUT_BACK": str(listing)}
        self._added = arguments
        return Resuming(arguments, told, "")

    def begin(self, pid: int) -> None:
        """An attempt has been started."""
        self._pid = pid
        self._failed = self._stopping = self._stepped = False
        self._failure = messages.ScriptFailed("script", "", "", "")
        if self._series is not None:
            self._series.attempt()
        if self.watch.called and not self._attached and not self._beside:
            self._observe()
        elif not self._attached and not self._beside:
            self._discover()
        if not self._proposed and not self._restored:
            self._proposed = True
            threads.start(self._propose, "proposal")

    def heard(self, message: messages.Message | messages.Malformed) -> None:
        """Learn from what the trainer says."""
        if isinstance(message, messages.ScriptFailed):
            self._failed, self._failure = self._failed or message.kind != "exit", message
        elif isinstance(message, messages.Hello):
            self._greeted(message)
        elif isinstance(message, messages.Saved) and not self._attached:
            self._saved(message)
        elif isinstance(message, messages.ReadBack) and not self._attached:
            self._read_back(message)
        elif isinstance(message, messages.Beat) and not self._attached:
            self._made().heard(message)
            self._stepped |= message.step > self._made().base_step
            if self._watcher is not None and message.section != "save":
                self._watcher.wake()

    def asked(self, message: messages.Save | messages.Stop, tell: Callable[[], object]) -> None:
        """Tell the trainer, after what is new was taken if it is to end."""
        watcher = self._watcher
        if watcher is None:
            tell()
        elif isinstance(message, messages.Stop):
            self._stopping = True
            if message.save:
                watcher.before_stop(tell, message.grace_s / 3)
            else:
                tell()
        else:
            tell()
            if message.reason != "due":
                watcher.hurry()

    def ended(self, code: int) -> bool:
        """The attempt is over: what the script left is whole if it ended by itself, as it should or as it was told to.

        Return whether the next attempt is started with another of the script's files.
        """
        trusted = code == 0 or (code > 0 and self._stopping and not self._failed)
        if self._discovery is not None:
            self._discovery.end(trusted=trusted)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.end(trusted=trusted)
        self._outside.ended()
        if self._discovery is not None and not self._observed:
            self._nothing_yet.ended(self._discovery.left())
        if code > 0 and not (self._stepped or self._stopping or self._attached):
            failure = self._failure
            words = f"{failure.type}: {failure.message}".strip(": ") or f"exit code {code}"
            return self._candidates.failed(failure.kind, words)
        return False

    def close(self) -> None:
        """Watch no more; nothing more is taken."""
        if self._discovery is not None:
            self._discovery.stop()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()

    def _template(self) -> str:
        """Return what ``--resume-args`` says; for ``auto``, what the script's source says."""
        given = self.watch.resume_args
        return script_sources.convention(self.job.script).arguments if given == resume_arguments.AUTO else given

    def _propose(self) -> None:
        """Say how the script is told to resume, by its source, where the command does not say it."""
        given = self.watch.resume_args
        if given not in {"", resume_arguments.AUTO} or any("supervisor." in word for word in self.job.arguments):
            return
        found = script_sources.convention(self.job.script)
        words = resume_options.proposal(found, self.job.arguments, auto=given == resume_arguments.AUTO)
        if words and not self._attached:
            self._say("info", words)

    def _put_back(self, ready: ev.CheckpointReady, carried: Carried, records: Mapping[str, tuple[int, str]]) -> None:
        if carried.root and not self.watch.called:
            # the folder was named by an earlier command; what was in it is needed all the same
            self._see_believed(carried.root)
            self.watch = replace(self.watch, called=carried.root, folder=Path(carried.root).absolute())
            self._paths = None
        root = self.root if carried.root else self._working
        if not carried.root:
            protected.refuse([each.path for each in carried.entries], root, self.job.script)
        assert ready.id is not None
        aside = self.storing.local.run / ASIDE / f"{self.storing.rank}-{ready.id.step}"
        attached = STATE_FILE in records  # then the files belong to the step of the state, however new others are
        untied = not (ready.rolled or attached)
        newer = self._whole().newer(root, ready.id.rank, carried.entries) if untied else []
        done = putting_back.put_back(Path(ready.folder), carried, root, aside, {each.path for each in newer})
        if self._paths is not None:
            self._paths |= {entry.path for entry in carried.entries} | {each.path for each in newer}
        scan = scanning.scan(root, self._paths)
        for each in newer:
            scan.pop(each.path, None)  # it is new to the next snapshot
        together = _with_newer(carried, newer)
        step = max([ready.id.step, *(each.step for each in newer if each.step is not None)])
        self._made().goes_on(
            snapshots.known_of(Path(ready.folder), carried, records, scan),
            step,
            together.checkpoint,
            ours=ready.adopted or ready.id.epoch == self.storing.rank.epoch,
        )
        if attached:
            self._beside = ready.folder
        else:
            self._restored = ready.folder
            self._candidates.of(ready.folder, together)
            self._carried = tuple(entry.path for entry in together.entries if entry.kind == FILE)
        if done.written or done.moved:
            where = carried.root or "the working folder"
            moved = f"; {named(done.moved)} moved aside into {aside}" if done.moved else ""
            self._say("info", f"{done.written:,} of {carried.files:,} files put back into {where}{moved}")
        if newer:
            paths = named([each.path for each in newer], ordered=True)
            self._say("info", f"{len(newer):,} newer files of the script on this disk are whole and are used: {paths}")

    def _see_believed(self, root: str) -> None:
        """Raise UserError where only the checkpoint names the folder: whoever writes into the store could name any."""
        if not (self.watch.trusting or root == self.watch.named_before):
            raise UserError(
                f"the checkpoint holds the files of the folder {root!r}, which no command on this machine has named",
                f"if they belong there, start again with {shlex.join(program.option_words('--watch', root))}",
                FAILED_PRECHECKS,
            )
        others = {
            watched_folder.STORE: Path(self.job.store.traits.where),
            "the working folder": self._working,
            "the script": self.job.script,
            "the folder of its sessions": self.job.local_root,
            "your home": Path.home(),
        }
        watched_folder.refuse(root, others)

    def _whole(self) -> WholeFiles:
        if self._notes is None:
            self._notes = WholeFiles(self.storing.local.run / WHOLE, str(self.job.identity.get("boot", "")))
        return self._notes

    def _begin_clean(self) -> None:
        """Without a snapshot nothing that an earlier attempt left is known to be whole: only what was there before it stays."""
        note = self.storing.local.run / AT_FIRST
        scan = scanning.scan(self.root)
        key = str(self.root)
        known = _read(note)
        if key in known:
            first = {path: _seen(each) for path, each in known[key].items()}
            unchanged = {path for path, seen in scan.items() if snapshots.same(first.get(path), seen)}
            aside = self.storing.local.run / ASIDE / f"{self.storing.rank}-begin"
            if moved := putting_back.move_changed(self.root, first, aside, unchanged):
                self._say(
                    "info", f"{named(moved)} in {self.watch.called} moved aside into {aside}: nothing proves it whole"
                )
                scan = scanning.scan(self.root)
        else:
            note.write_text(json.dumps({**known, key: scan}))
        self._made().seen = scan

    def _greeted(self, hello: messages.Hello) -> None:
        if not hello.attached:
            self._made().heard(hello)
        elif not self._attached:
            self._attached = True
            self.close()  # the trainer copies the watched files itself, at the step of the state
            self._discovery = None

    def _saved(self, saved: messages.Saved) -> None:
        inside = os.path.relpath(saved.path, self.root)
        if inside == "." or inside.startswith("..") or naming.is_temporary(Path(inside).name):
            if inside.startswith(".."):
                self._outside.saved(saved.path, self.watch.called)
            return
        with self._lock:
            self._made().told(inside, saved.step)
            if self._paths is not None:
                logs = self._discovery.logs_beside(inside) if self._discovery is not None else ()
                self._paths = {*self._paths, inside, *logs}
                if self._watcher is None:
                    self._observe()
            if self._watcher is not None and saved.whole:
                self._watcher.saved(inside)
            if saved.whole:
                self._whole().add(self.storing.rank, self.root, inside, saved.step)

    def _read_back(self, told: messages.ReadBack) -> None:
        """Say whether the script goes on from what was put back; if not, its snapshots count from its first step too."""
        name = repr(os.path.relpath(told.path, self.root)) if told.path else ""
        if told.late:
            words = f"the script opened {name}, which was put back, only after its first step"
            self._say("warning", words, "what it does with it cannot be seen from here; its steps are counted from 0")
        elif told.path:
            words = f"the script opened {name}, which was put back, before its first step"
            words += ": its steps are counted on from there" if self._counted else ""
            unseen = _NOT_LOADED.get(told.loaded, "").format(script=shlex.quote(self.job.script.name))
            self._say("info", words, unseen)
        else:
            self._made().begins_again()
            words = "the script read nothing that was put back: it begins at its first step again"
            self._say("warning", words, self._way_on())

    def _way_on(self) -> str:
        """Return what makes a script read what was put back."""
        if self._added:
            return f"it was started with {shlex.join(self._added)}: is that how it is told to go on?"
        return f"to have it go on from them: {resume_options.advice(script_sources.convention(self.job.script))}"

    def _discover(self) -> None:
        """Look in the working folder for what the script saves by means that no hook knows."""
        if self._discovery is None and not discovering.on_a_drive(self._working):
            traits = self.job.store.traits
            self._discovery = Discovery(self._working, self.job.clock, [str(self.job.local_root)], self, [traits.where])
        if self._discovery is not None:
            self._nothing_yet.begins(self.job.clock.now().mono_s)
            self._discovery.begin(self._pid, self._paths or ())

    # --- what Discovery asks and tells, on a thread of its own --------------------------------------------------------

    def found(self, path: str) -> None:
        """Keep what looks like state."""
        if not self._attached:
            shape = naming.shape_of(path)
            if shape not in self._shapes and not self.was_kept(path):
                self._shapes.add(shape)
                self._say("info", f"{path} looks like state that the script saves: it is kept")
            self._saved(messages.Saved(str(self.root / path)))

    def beside(self, path: str) -> None:
        """Carry a log that lies with what is saved."""
        with self._lock:
            if self._paths is not None and path not in self._paths:
                self._paths = {*self._paths, path}

    def kept(self) -> Collection[str]:
        """Return what is watched by now: files that were put back are not, before the script saves again."""
        return (self._paths or ()) if self._watcher is not None else ()

    def was_kept(self, path: str) -> bool:
        """Say whether it is one of the script's saves that were put back, and no log beside them."""
        logs = naming.is_stream(path) or state_files.has_lines_of_a_run(path)
        return not logs and naming.within(path, self._paths or ())

    def stepping(self) -> bool:
        """Say whether the script trains by now."""
        return self._stepped

    def looked(self) -> None:
        """Say after a while that nothing was seen."""
        if not (self._attached or self._paths or self._restored) and self._discovery is not None:
            self._nothing_yet.looked(self.job.clock.now().mono_s, self._discovery)

    def _observe(self) -> None:
        self._observed = True
        listens = bool(self.watch.called)
        scene = Scene(self.root, self.watch.called, self._pid, self.watch.every_s, listens=listens)
        self._watcher = Watcher(scene, self._made(), self._wanted)
        self._watcher.begin()

    def _wanted(self) -> Collection[str] | None:
        return self._paths

    def _made(self) -> Series:
        if self._series is None:
            self._series = Series(self.storing.local.staging, self.job.clock, self.storing.take_log, self._inbox)
            self._series.whole = lambda files: self._whole().all_still(self.storing.rank, self.root, files)
        return self._series

    def _say(self, level: str, words: str, hint: str = "") -> None:
        self._inbox(ev.TrainerSaid(messages.Note(level, masked_text(words), masked_text(hint))))


def _with_newer(carried: Carried, newer: Sequence[Newer]) -> Carried:
    """Return what the script's files are with those that stay, the newest checkpoint among them."""
    if not newer:
        return carried
    made = {entry.path: entry for entry in carried.entries}
    for each in newer:
        made[each.path] = Entry(each.path, FILE, each.seen.mode, each.seen.mtime_ns, Piece("", 0, each.seen.size, ""))
    best = choosing.choices({each.path: Found(each.seen.size, each.seen.mtime_ns) for each in newer}, ("",))
    return replace(carried, entries=tuple(made.values()), checkpoint=best[0].paths[""] if best else carried.checkpoint)


def _seen(each: list[Any]) -> Seen:
    return Seen(*each)._replace(inode=(each[5][0], each[5][1]))


def _read(note: Path) -> dict[str, dict[str, list[Any]]]:
    try:
        return dict(json.loads(note.read_text()))
    except (OSError, ValueError):
        return {}
