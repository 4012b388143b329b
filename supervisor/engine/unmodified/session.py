"""One session of an unmodified script: restores its files, watches them and takes snapshots.

``--watch-dir DIR`` names the folder. Without it, files count that the framework reports as saved and that lie in the
working folder. A script that calls attach() needs none of this.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from supervisor.core import shell_commands
from supervisor.core.checkpoint.checkpoint_json import STATE_FILE, CheckpointInfoError
from supervisor.core.checkpoint.file_manifest import FILE, FileExtent, FileRow
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.frozen import dataclass
from supervisor.core.masking import masked_text
from supervisor.core.session import events as ev
from supervisor.core.unmodified import file_patterns, resume_arguments, resume_file, resume_options, state_file_names
from supervisor.core.unmodified.resume_file import FoundFile
from supervisor.core.wire import messages
from supervisor.engine import threads
from supervisor.engine.file_watch import discovery, watch_options
from supervisor.engine.file_watch import scan as folder_scan
from supervisor.engine.file_watch.complete_files import CompleteFiles
from supervisor.engine.file_watch.discovery import Discovery
from supervisor.engine.file_watch.scan import FileMark
from supervisor.engine.file_watch.watcher import WatchedAttempt, Watcher
from supervisor.engine.unmodified import protected_files, script_sources
from supervisor.engine.unmodified import restore as file_restore
from supervisor.engine.unmodified import snapshot as file_snapshot
from supervisor.engine.unmodified.resume_candidates import ResumeCandidates
from supervisor.engine.unmodified.snapshot_series import SnapshotSeries
from supervisor.engine.unmodified.unsaved_files import NothingYet, Outside, named

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from supervisor.core.checkpoint.file_manifest import FileManifest
    from supervisor.engine.context import SessionContext
    from supervisor.engine.file_watch.complete_files import NewerFiles
    from supervisor.engine.upload.session_store import SessionStore

ASIDE, AT_FIRST, WHOLE, PUT_BACK = "aside", "files-at-first.json", "files-whole.jsonl", "put-back.json"


_NOT_LOADED = {
    "nothing": "no load_state_dict() was seen before that step: `rehearse {script}` tells whether the script really resumes",
    "network": "a network has loaded its state, no optimizer has: moments begin fresh, if it has any",
    "optimizer": "an optimizer has loaded its state, no network has: `rehearse {script}` tells whether the script really resumes",
}


@dataclass(frozen=True, slots=True)
class ResumeArguments:
    """Additions for the next attempt: arguments, environment variables, and the state to restore."""

    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    checkpoint: str


class UnmodifiedScriptSession:
    """One instance per session.

    ``restore_files`` runs on a lane, ``on_message`` on the channel's thread, ``on_trainer_exit`` on the waiter's.
    """

    def __init__(self, job: SessionContext, storing: SessionStore, inbox: Callable[[ev.Event], None]) -> None:
        self.job, self.storing, self.watch = job, storing, job.watch
        self._inbox = inbox
        self._working = Path.cwd()
        self._attached = self._failed = self._stopping = self._proposed = False
        self._paths: set[str] | None = None if self.watch.called else set()
        self._series: SnapshotSeries | None = None
        self._watcher: Watcher | None = None
        self._counted = True  # the steps of the restored files
        self._observed = False  # True once a save was seen in this session
        self._candidates = ResumeCandidates(self._say)
        self._failure = messages.ScriptFailed("script", "", "", "")
        self._stepped = False
        self._pid = 0
        self._restored = ""  # the checkpoint whose files were restored and which has only files
        self._beside = ""  # the same for one that also holds attached state
        self._lock = RLock()
        self._notes: CompleteFiles | None = None
        self._discovery: Discovery | None = None
        self._shapes: set[str] = set()  # name patterns that were reported as kept
        self._outside = Outside(self._say)
        self._nothing_yet = NothingYet(self._say)
        self._carried: tuple[str, ...] = ()
        self._added: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The watched folder, or the working folder."""
        return self.watch.folder if self.watch.called else self._working

    def restore_files(self, ready: ev.Event | None) -> ev.Event | None:
        """Make the files equal to the checkpoint before a resume. Raises UserError if that is impossible."""
        if not isinstance(ready, ev.CheckpointReady):
            return ready
        self._restored = self._beside = ""
        try:
            found = file_restore.file_manifest_in(Path(ready.folder)) if ready.folder else None
            if found is not None and ready.id is not None:
                self._put_back(ready, *found)
                if not self._beside:
                    self._counted = found[0].counted
                    ready = replace(ready, files=True, step_known=self._counted)
            elif self.watch.called and not ready.folder:
                self._set_leftovers_aside()
        except (OSError, CheckpointInfoError) as error:
            words = f"the files of the script cannot be put back into {self.root}: {error}"
            raise UserError(words, "see to its permissions and its room, and start again", FAILED_PRECHECKS) from error
        return ready

    def resume_arguments(self, checkpoint: str) -> ResumeArguments:
        """Return the additions for an attempt that resumes this checkpoint ("" for none)."""
        series = self._series
        if self._beside == checkpoint:
            # a later command need not name the folder again: the checkpoint names it
            return ResumeArguments((), {"SUPERVISOR_RUN_WATCH": self.watch.called} if checkpoint else {}, checkpoint)
        if series is None or not checkpoint or checkpoint != self._restored:
            return ResumeArguments((), {}, checkpoint)
        arguments = self._candidates.arguments(self._template(), self.root, series.base_step)
        if arguments:
            self._say("info", f"the script is started with {shlex.join(arguments)}{self._candidates.rule}")
        listing = self.storing.local.session / PUT_BACK
        listing.write_text(json.dumps([str(self.root / path) for path in self._carried]))
        told = {"SUPERVISOR_RUN_BASE_STEP": str(series.base_step), "SUPERVISOR_RUN_PUT_BACK": str(listing)}
        self._added = arguments
        return ResumeArguments(arguments, told, "")

    def attempt_started(self, pid: int) -> None:
        """Note the start of an attempt."""
        self._pid = pid
        self._failed = self._stopping = self._stepped = False
        self._failure = messages.ScriptFailed("script", "", "", "")
        if self._series is not None:
            self._series.attempt_started()
        if self.watch.called and not self._attached and not self._beside:
            self._observe()
        elif not self._attached and not self._beside:
            self._discover()
        if not self._proposed and not self._restored:
            self._proposed = True
            threads.start(self._propose, "proposal")

    def on_message(self, message: messages.Message | messages.Malformed) -> None:
        """Take in a message of the trainer."""
        if isinstance(message, messages.ScriptFailed):
            self._failed, self._failure = self._failed or message.kind != "exit", message
        elif isinstance(message, messages.Hello):
            self._on_hello(message)
        elif isinstance(message, messages.ScriptSavedFile) and not self._attached:
            self._on_saved(message)
        elif isinstance(message, messages.ReadBack) and not self._attached:
            self._on_read_back(message)
        elif isinstance(message, messages.Heartbeat) and not self._attached:
            self._made().on_message(message)
            self._stepped |= message.step > self._made().base_step
            if self._watcher is not None and message.section != "save":
                self._watcher.wake()

    def forward_to_trainer(
        self, message: messages.SaveRequest | messages.StopRequest, tell: Callable[[], object]
    ) -> None:
        """Send a request to the trainer; before an end, first take a snapshot of new files."""
        watcher = self._watcher
        if watcher is None:
            tell()
        elif isinstance(message, messages.StopRequest):
            self._stopping = True
            if message.save:
                watcher.before_stop(tell, message.grace_s / 3)
            else:
                tell()
        else:
            tell()
            if message.reason != "due":
                watcher.hurry()

    def on_trainer_exit(self, code: int) -> bool:
        """Handle the end of an attempt. If the script ended by itself or on request, its files are complete.

        Return True if the next attempt starts with another of the script's checkpoints.
        """
        trusted = code == 0 or (code > 0 and self._stopping and not self._failed)
        if self._discovery is not None:
            self._discovery.end(trusted=trusted)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.end(trusted=trusted)
        self._outside.on_exit()
        if self._discovery is not None and not self._observed:
            self._nothing_yet.on_exit(self._discovery.unsaved())
        if code > 0 and not (self._stepped or self._stopping or self._attached):
            failure = self._failure
            words = f"{failure.type}: {failure.message}".strip(": ") or f"exit code {code}"
            return self._candidates.next_after_failure(failure.kind, words)
        return False

    def close(self) -> None:
        """Stop watching; no further snapshot is taken."""
        if self._discovery is not None:
            self._discovery.stop()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()

    def _template(self) -> str:
        """Return the template of ``--resume-args``; for ``auto``, the option in the script's source."""
        given = self.watch.resume_args
        return script_sources.convention(self.job.script).arguments if given == resume_arguments.AUTO else given

    def _propose(self) -> None:
        """Report the script's resume option from its source if the command does not name it."""
        given = self.watch.resume_args
        if given not in {"", resume_arguments.AUTO} or any("supervisor." in word for word in self.job.arguments):
            return
        found = script_sources.convention(self.job.script)
        words = resume_options.proposal(found, self.job.arguments, auto=given == resume_arguments.AUTO)
        if words and not self._attached:
            self._say("info", words)

    def _put_back(
        self, ready: ev.CheckpointReady, carried: FileManifest, records: Mapping[str, tuple[int, str]]
    ) -> None:
        if carried.root and not self.watch.called:
            # an earlier command named the folder; its content is needed anyway
            self._require_trusted_folder(carried.root)
            self.watch = replace(self.watch, called=carried.root, folder=Path(carried.root).absolute())
            self._paths = None
        root = self.root if carried.root else self._working
        if not carried.root:
            protected_files.reject([each.path for each in carried.entries], root, self.job.script)
        assert ready.id is not None
        aside = self.storing.local.run / ASIDE / f"{self.storing.rank}-{ready.id.step}"
        attached = STATE_FILE in records  # then the files belong to the step of the state, even if others are newer
        untied = not (ready.rollbacks or attached)
        newer = self._whole().newer(root, ready.id.session_id, carried.entries) if untied else []
        done = file_restore.restore_files(Path(ready.folder), carried, root, aside, {each.path for each in newer})
        if self._paths is not None:
            self._paths |= {entry.path for entry in carried.entries} | {each.path for each in newer}
        scan = folder_scan.scan(root, self._paths)
        for each in newer:
            scan.pop(each.path, None)  # it is new to the next snapshot
        together = _with_newer(carried, newer)
        step = max([ready.id.step, *(each.step for each in newer if each.step is not None)])
        self._made().resume_from(
            file_snapshot.restored_snapshot(Path(ready.folder), carried, records, scan),
            step,
            together.checkpoint,
            ours=ready.adopted or ready.id.generation == self.storing.rank.generation,
        )
        if attached:
            self._beside = ready.folder
        else:
            self._restored = ready.folder
            self._candidates.use_snapshot(ready.folder, together)
            self._carried = tuple(entry.path for entry in together.entries if entry.kind == FILE)
        if done.written or done.moved:
            where = carried.root or "the working folder"
            moved = f"; {named(done.moved)} moved aside into {aside}" if done.moved else ""
            self._say("info", f"{done.written:,} of {carried.files:,} files put back into {where}{moved}")
        if newer:
            paths = named([each.path for each in newer], ordered=True)
            self._say("info", f"{len(newer):,} newer files of the script on this disk are whole and are used: {paths}")

    def _require_trusted_folder(self, root: str) -> None:
        """Raise UserError if only the checkpoint names the folder: any writer of the store could name any folder."""
        if not (self.watch.trusting or root == self.watch.named_before):
            raise UserError(
                f"the checkpoint holds the files of the folder {root!r}, which no command on this machine has named",
                f"if they belong there, start again with {shlex.join(shell_commands.option_words('--watch-dir', root))}",
                FAILED_PRECHECKS,
            )
        others = {
            watch_options.STORE: Path(self.job.store.traits.where),
            "the working folder": self._working,
            "the script": self.job.script,
            "the folder of its sessions": self.job.local_root,
            "your home": Path.home(),
        }
        watch_options.reject(root, others)

    def _whole(self) -> CompleteFiles:
        if self._notes is None:
            self._notes = CompleteFiles(self.storing.local.run / WHOLE, str(self.job.identity.get("boot", "")))
        return self._notes

    def _set_leftovers_aside(self) -> None:
        """With no snapshot to restore, move aside all files of earlier attempts; keep files from before the first one."""
        note = self.storing.local.run / AT_FIRST
        scan = folder_scan.scan(self.root)
        key = str(self.root)
        known = _read(note)
        if key in known:
            first = {path: _seen(each) for path, each in known[key].items()}
            unchanged = {path for path, seen in scan.items() if file_snapshot.same_content(first.get(path), seen)}
            aside = self.storing.local.run / ASIDE / f"{self.storing.rank}-begin"
            if moved := file_restore.move_changed(self.root, first, aside, unchanged):
                self._say(
                    "info", f"{named(moved)} in {self.watch.called} moved aside into {aside}: nothing proves it whole"
                )
                scan = folder_scan.scan(self.root)
        else:
            note.write_text(json.dumps({**known, key: scan}))
        self._made().seen = scan

    def _on_hello(self, hello: messages.Hello) -> None:
        if not hello.attached:
            self._made().on_message(hello)
        elif not self._attached:
            self._attached = True
            self.close()  # the trainer copies the watched files itself, at the step of the state
            self._discovery = None

    def _on_saved(self, saved: messages.ScriptSavedFile) -> None:
        inside = os.path.relpath(saved.path, self.root)
        if inside == "." or inside.startswith("..") or file_patterns.is_temporary(Path(inside).name):
            if inside.startswith(".."):
                self._outside.on_saved(saved.path, self.watch.called)
            return
        with self._lock:
            self._made().on_saved(inside, saved.step)
            if self._paths is not None:
                logs = self._discovery.logs_near(inside) if self._discovery is not None else ()
                self._paths = {*self._paths, inside, *logs}
                if self._watcher is None:
                    self._observe()
            if self._watcher is not None and saved.closed:
                self._watcher.on_saved(inside)
            if saved.closed:
                self._whole().add(self.storing.rank, self.root, inside, saved.step)

    def _on_read_back(self, told: messages.ReadBack) -> None:
        """Report if the script reads its restored files. If not, its snapshots count from its first step too."""
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
            self._made().restart_steps()
            words = "the script read nothing that was put back: it begins at its first step again"
            self._say("warning", words, self._resume_hint())

    def _resume_hint(self) -> str:
        """Return the hint that makes a script read its restored files."""
        if self._added:
            return f"it was started with {shlex.join(self._added)}: is that its resume option?"
        return f"to have it resume from them: {resume_options.advice(script_sources.convention(self.job.script))}"

    def _discover(self) -> None:
        """Search the working folder for files that the script saves without a known hook."""
        if self._discovery is None and not discovery.on_a_drive(self._working):
            traits = self.job.store.traits
            self._discovery = Discovery(self._working, self.job.clock, [str(self.job.local_root)], self, [traits.where])
        if self._discovery is not None:
            self._nothing_yet.attempt_started(self.job.clock.now().mono_s)
            self._discovery.begin(self._pid, self._paths or ())

    # --- DiscoveryListener, called on a thread of its own
    # ---------------------------------------------------------------

    def found(self, path: str) -> None:
        """Keep a file that looks like state."""
        if not self._attached:
            shape = file_patterns.shape_of(path)
            if shape not in self._shapes and not self.was_kept(path):
                self._shapes.add(shape)
                self._say("info", f"{path} looks like state that the script saves: it is kept")
            self._on_saved(messages.ScriptSavedFile(str(self.root / path)))

    def beside(self, path: str) -> None:
        """Keep a log beside the saved files."""
        with self._lock:
            if self._paths is not None and path not in self._paths:
                self._paths = {*self._paths, path}

    def watched_paths(self) -> Collection[str]:
        """Return the watched paths. Restored files are not among them until the script saves again."""
        return (self._paths or ()) if self._watcher is not None else ()

    def was_kept(self, path: str) -> bool:
        """Return True if a path is one of the script's restored saves, and no log beside them."""
        logs = file_patterns.is_stream(path) or state_file_names.has_lines_of_a_run(path)
        return not logs and file_patterns.within(path, self._paths or ())

    def stepping(self) -> bool:
        """Return True once the script trains."""
        return self._stepped

    def scan_done(self) -> None:
        """Report after a while that no save was seen."""
        if not (self._attached or self._paths or self._restored) and self._discovery is not None:
            self._nothing_yet.on_scan(self.job.clock.now().mono_s, self._discovery)

    def _observe(self) -> None:
        self._observed = True
        listens = bool(self.watch.called)
        scene = WatchedAttempt(self.root, self.watch.called, self._pid, self.watch.every_s, listens=listens)
        self._watcher = Watcher(scene, self._made(), self._wanted)
        self._watcher.begin()

    def _wanted(self) -> Collection[str] | None:
        return self._paths

    def _made(self) -> SnapshotSeries:
        if self._series is None:
            self._series = SnapshotSeries(
                self.storing.local.staging, self.job.clock, self.storing.take_log, self._inbox
            )
            self._series.whole = lambda files: self._whole().add_quiescent(self.storing.rank, self.root, files)
        return self._series

    def _say(self, level: str, words: str, hint: str = "") -> None:
        self._inbox(ev.TrainerMessage(messages.TrainerNote(level, masked_text(words), masked_text(hint))))


def _with_newer(carried: FileManifest, newer: Sequence[NewerFiles]) -> FileManifest:
    """Return the script's files together with the newer ones that stay, the newest checkpoint among them."""
    if not newer:
        return carried
    made = {entry.path: entry for entry in carried.entries}
    for each in newer:
        made[each.path] = FileRow(
            each.path, FILE, each.seen.mode, each.seen.mtime_ns, FileExtent("", 0, each.seen.size, "")
        )
    best = resume_file.choices({each.path: FoundFile(each.seen.size, each.seen.mtime_ns) for each in newer}, ("",))
    return replace(carried, entries=tuple(made.values()), checkpoint=best[0].paths[""] if best else carried.checkpoint)


def _seen(each: list[Any]) -> FileMark:
    return FileMark(*each)._replace(inode=(each[5][0], each[5][1]))


def _read(note: Path) -> dict[str, dict[str, list[Any]]]:
    try:
        return dict(json.loads(note.read_text()))
    except (OSError, ValueError):
        return {}
