"""Sees everything, on every machine and in the store, and holds it against the invariants of design/store.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.checkpoint import MANIFEST_NAME, CheckpointId, FileEntry, Manifest, ManifestError, parse_manifest
from supervisor.core.claim import Rank, judge
from supervisor.core.digest import algorithm_of, digest_of
from supervisor.core.retention import NEWEST_MIN
from supervisor.core.rollback import TROUBLE
from supervisor.core.session import FINAL, Phase
from supervisor.core.sharing import SHARED_SUFFIX
from supervisor.engine.checkpoints import ALL_WITHDRAWN
from tests.simulation.troubles import Withdrawals
from tests.simulation.virtual_trainer import slow_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.ports import Entry
    from tests.simulation.virtual_drive import Drive
    from tests.simulation.virtual_store import Shelf
    from tests.simulation.virtual_supervisor import Supervisor
    from tests.simulation.virtual_trainer import Chain
    from tests.simulation.world import World

EXIT_CODES = frozenset({0, 1, 3, 4, 42, 75, 93, 130, 143})
GAP_S = 61.0  # later than that a session that stood still must have noticed, whatever it was going to wake for
STUCK_AFTER_S = 900.0
TWIN = re.compile(r" \(\d+\)(?=[./]|$)")


TOLD = (
    ev.ControllerFailed, ev.Durable, ev.PublishFailed, ev.CheckpointReady, ev.SetupFailed, ev.Unconfirmed, ev.Submitted,
    ev.Flushed,
)  # fmt: skip


class Violation(BaseException):
    """An invariant does not hold."""


class Observer:
    """Is told of every operation; raises Violation at the first that breaks an invariant."""

    def __init__(self, world: World, shelf: Shelf | Drive, chain: Chain, keep: int) -> None:
        self.world, self.shelf, self.chain, self.keep = world, shelf, chain, keep
        self.sessions: dict[str, Supervisor] = {}
        self.durable: dict[CheckpointId, float] = {}
        self.rotten: set[CheckpointId] = set()
        self.counts: dict[str, int] = {}
        self.finished = self._asked = False
        self._manifests: dict[CheckpointId, tuple[str, Manifest]] = {}
        self._put: dict[str, bytes] = {}
        self._stagings: set[bytes] = set()
        self._fenced: set[Supervisor] = set()
        self._looked_at: dict[Supervisor, float] = {}
        self._claims: set[Rank] = set()
        self._unlinked: set[str] = set()
        self.short: set[Supervisor] = set()
        self._expected: dict[Supervisor, CheckpointId | None] = {}
        self._worked: dict[Supervisor, bool] = {}
        self._afresh: set[Supervisor] = set()
        self._flying: dict[Supervisor, str] = {}
        self._expired: set[CheckpointId] = set()
        self._restarts: dict[Supervisor, CheckpointId] = {}
        self._since_look: dict[Supervisor, str] = {}
        self._heard_at: dict[Supervisor, float] = {}
        self._frozen: dict[Supervisor, float] = {}
        self._stuck: dict[Supervisor, float] = {}
        self.withdrawals = Withdrawals(self)

    # --- the store ----------------------------------------------------------------------------------------------------

    def listed(self, by: Supervisor, folder: str, found: Sequence[Entry], at: float) -> None:
        """A listing as of ``at`` was handed to a process."""
        if folder == "run" and by.executor is not None:
            self._looked_at[by] = at
            self._since_look.pop(by, None)
            rank = by.executor.storing.rank
            if rank.epoch and judge((each.name for each in found), rank):
                self._fenced.add(by)

    def asked(self, by: Supervisor, path: str) -> None:
        """A process asks for the evidence on a file."""
        self._since_look[by] = path

    def writing(self, by: Supervisor, path: str) -> None:
        """A file is about to be written."""
        if by.executor is None:
            self._hold("I8", TWIN.sub("", path) == "run/run.json", f"who has no rank writes {path}")
            return
        rank = by.executor.storing.rank
        self._hold("I8", path.startswith((f"run/{rank}/", "run/knock-")), f"{rank} writes {path}")
        publishes = "/step-" in path or "/log-" in path or "/rollback-" in path
        self._hold("I10", not (publishes and by in self._fenced), f"{rank} publishes {path} after it was outranked")
        if MANIFEST_NAME.fullmatch(path.rpartition("/")[2]):
            since = self._since_look.get(by)
            self._hold("I10", since is None, f"{rank} seals {path} without a look at the fence after {since}")
        elif publishes and "/rollback-" not in path:
            self._since_look[by] = path

    def written(self, by: Supervisor, path: str, body: bytes) -> None:
        """A file was written."""
        self._put[path] = body
        self.withdrawals.written(by, path)
        name = path.rpartition("/")[2]
        if MANIFEST_NAME.fullmatch(name):
            try:
                manifest = parse_manifest(name, body)
            except ManifestError as error:
                raise Violation(
                    f"I8 at {self.world.now:.0f} s: {path} is written, and no reader takes it: {error}"
                ) from error
            self._is_the_only_one(manifest)
            self._manifests[manifest.id] = (path, manifest)
            # what was there may be gone again: a successor removes what a zombie seems to have left unfinished
            never = [
                each.path for each in manifest.all_files()
                if not (_is(self._put.get(f"run/{each.path}"), each) or self._there(each))
            ]  # fmt: skip
            self._hold("I1", not never, f"the manifest of {manifest.id} names {never}, which never were there")
            self._rests(manifest)
            self._arrived(by, manifest)
        if name == "claim.json":
            rank = by.executor.storing.rank
            looked = self._looked_at[by] - self.shelf.lag_s
            known = [
                each for each in self._claims
                if each.epoch >= rank.epoch and self.shelf.since(f"run/{each}/claim.json") < looked
            ]  # fmt: skip
            self._hold("I11", not known, f"{rank} claims an epoch that {known} had")
            self._claims.add(rank)

    def left(self, by: Supervisor, path: str, body: bytes) -> None:
        """A part of a file was written. Of a record of a trouble that is enough: all that it says stands in its name."""
        self._put[path] = body
        self.withdrawals.written(by, path)

    def deleting(self, by: Supervisor, path: str) -> None:
        """A file is about to be deleted."""
        own = f"run/{by.executor.storing.rank}/"
        if path.startswith(own) and "/" not in path.removeprefix(own) and not path.startswith(f"{own}log-"):
            return  # a piece of its own journal that was torn, to be written again
        self._hold("I10", by not in self._fenced, f"{by.executor.storing.rank} deletes {path} after it was outranked")
        named = TWIN.sub("", path)
        for id_ in self.durable.keys() - self._expired:
            manifest_path, manifest = self._manifests[id_]
            standing = manifest_path not in self._unlinked and named != manifest_path
            if standing and any(named == f"run/{entry.path}" for entry in manifest.files):
                raise Violation(f"I2 at {self.world.now:.0f} s: {path} is deleted before the manifest of {id_}")

    def deleted(self, by: Supervisor, path: str) -> None:
        """A file was deleted: what was DURABLE must still load, or have enough newer ones."""
        self._unlinked.add(TWIN.sub("", path))
        least = NEWEST_MIN if by in self.short else self.keep
        for id_ in self.durable.keys() - self.rotten - self._expired:
            manifest_path, manifest = self._manifests[id_]
            mine = {manifest_path, *(f"run/{entry.path}" for entry in manifest.all_files())}
            if TWIN.sub("", path) in mine:
                newer = [each for each in self.durable if each > id_]
                self._hold("I2", len(newer) >= least, f"{id_} was removed with {len(newer)} newer ones DURABLE")
                self._expired.add(id_)

    # --- the session --------------------------------------------------------------------------------------------------

    def happened(self, by: Supervisor, event: ev.Event) -> None:
        """An event reached a session."""
        kind = type(event)
        self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
        self._thaw(by, event)
        if kind not in TOLD:
            return
        match event:
            case ev.ControllerFailed():
                raise Violation(f"I15: {event.error}")
            case ev.Durable():
                # another session may have proved it before, and it rotted since: that one stood still meanwhile
                self._rot_together(event.id)
                known = event.id in self.rotten | self._expired
                self._hold("I4", known or self.loads(event.id), f"{event.id} is called DURABLE and does not load")
                self.durable.setdefault(event.id, self.world.now)
                self._landed(by, event.folder)
            case ev.Unconfirmed():
                self._still_flies(by, event)
            case ev.Submitted():
                self._stuck[by] = self.world.now
            case ev.PublishFailed():
                self._landed(by, event.folder)
            case ev.CheckpointReady():
                self._chose(by, event)
            case ev.SetupFailed():
                self._refused(event.what, by)
            case ev.Flushed() if event.id is not None and not event.error:
                self._hold("I4", self.loads(event.id), f"{event.id} is called flushed and does not load")
                self.durable.setdefault(event.id, self.world.now)

    def commanded(self, by: Supervisor, command: do.Command) -> None:
        """A session commanded something."""
        if isinstance(command, do.Restore):
            known = self._known(by)
            self.withdrawals.restoring(by)
            if command.afresh:
                self._afresh.add(by)
            if by in self._afresh:  # for the whole session, also where only its trainer begins again
                known = [id_ for id_ in known if id_.writer == by.writer]
            began = self.withdrawals.began(by.executor.storing.rank.epoch)
            known = [
                id_ for id_ in known if id_.epoch >= began
            ]  # what is older is another training, by a person's word
            self._worked[by] = bool(known)
            good = [id_ for id_ in known if id_ not in self.rotten | self._expired and not self.withdrawals.gone(id_)]
            if by in self._restarts:  # it goes on where it was, whatever a rival of the same epoch has done
                good = [self._restarts[by], *(id_ for id_ in good if id_.writer == by.executor.storing.rank.writer)]
            self._expected[by] = max(good, default=None)
        elif isinstance(command, do.Publish):
            self._hold("I17", by not in self._flying, f"a second upload: {command.folder}")
            self._flying[by] = command.folder
            self._holds_still(by, command)
        elif isinstance(command, do.Confirm | do.Retain):
            self._holds_still(by, command)
        elif isinstance(command, do.Announce) and command.phase in FINAL:
            self._hold("I15", command.exit_code in EXIT_CODES, f"exit code {command.exit_code}")

    def restored(self, by: Supervisor, step: int, state: str) -> None:
        """A trainer goes on from here. Where batches were left out the log tells in the end what the state had to be."""
        if self.chain.bad.batches:
            return
        self._hold("I18", state == self.chain.states[step], f"{by.executor.storing.rank} restored another step {step}")

    def restored_slow_part(self, by: Supervisor, step: int, body: bytes) -> None:
        """What changes now and then only was brought from where it lies."""
        whole = body == slow_part(self.chain, step)
        self._hold("I18", whole, f"{by.executor.storing.rank} restored another slow part at step {step}")

    def staged(self, body: bytes) -> None:
        """A trainer staged a checkpoint."""
        self._stagings.add(body)

    def ended(self, by: Supervisor) -> None:
        """A session came to its own end."""
        self.counts[str(by.session.phase)] = self.counts.get(str(by.session.phase), 0) + 1
        if by.session.ending is not None and by.session.ending.reason == TROUBLE:
            self.chain.bad.mended = True  # a person looks at it
        if by.session.phase is Phase.SUCCEEDED:
            done = max(self.durable, key=lambda id_: id_.step, default=None)
            self._hold("I4", done is not None and done.step == self.chain.total, "finished without a DURABLE end")
            self.finished = True

    # --- the truth ----------------------------------------------------------------------------------------------------

    def loads(self, id_: CheckpointId) -> bool:
        """Say whether every file of a published checkpoint lies there as it was written."""
        if id_ not in self._manifests:
            return False
        path, manifest = self._manifests[id_]
        if not any(_is_manifest(path, body) for body in self.shelf.copies(path)):
            return False
        return all(self._there(entry) for entry in manifest.all_files())

    def damage_newest(self) -> None:
        """Let the disk under the store rot: the newest DURABLE checkpoint gets a wrong byte, or loses a file's content.

        Not a file that checkpoints share: of that there is one copy, and they are lost with it together.
        """
        good = sorted(id_ for id_ in self.durable.keys() - self._expired if id_ not in self.rotten and self.loads(id_))
        if len(good) < self.keep or self.rotten - self._expired:
            return
        path, manifest = self._manifests[good[-1]]
        others = {entry.path for id_ in good[:-1] for entry in self._manifests[id_][1].files}
        mine = (each for each in manifest.files if not each.name.endswith(SHARED_SUFFIX) and each.path not in others)
        victims = [path, *(f"run/{entry.path}" for entry in mine)]
        victim = self.world.chance.choice(victims)
        body = self.shelf.copies(victim)[0] or b"?"
        self.shelf.damage(victim, self.world.chance.choice([b"", body[:-1], body[:-1] + bytes([body[-1] ^ 1])]))
        self.rotten.add(good[-1])

    def hide_newest(self, until: float) -> None:
        """Let nobody read the newest DURABLE checkpoint for a while."""
        good = sorted(id_ for id_ in self.durable.keys() - self._expired - self.rotten if self.loads(id_))
        if good and self.shelf.mounted:
            path, manifest = self._manifests[good[-1]]
            self.shelf.unreadable(self.world.chance.choice([path, f"run/{manifest.files[0].path}"]), until)

    def _there(self, entry: FileEntry) -> bool:
        return any(_is(body, entry) for body in self.shelf.copies(f"run/{entry.path}"))

    def _known(self, by: Supervisor) -> list[CheckpointId]:
        """What is DURABLE since long enough for this session to see it, of sessions it may follow."""
        old = self.world.now - self.shelf.lag_s
        mine = by.executor.storing.rank
        return [id_ for id_, at in self.durable.items() if at <= old and Rank(id_.epoch, id_.writer) <= mine]

    def _refused(self, words: str, by: Supervisor) -> None:
        """A start asks a person, who lets it begin anew only if there is nothing to lose."""
        if words.startswith(ALL_WITHDRAWN):
            left = [id_ for id_ in self._known(by) if id_ not in self.rotten | self._expired]
            self._hold("R1", all(map(self.withdrawals.gone, left)), words)
            self._asked = self.chain.bad.mended = True
        if "no usable checkpoint is in it" not in words:
            return
        there = [id_ for id_ in self._known(by) if id_ not in self.rotten | self._expired]
        self._hold("I2", self.shelf.mounted and not there, words)
        self._asked = True

    def may_begin_anew(self) -> bool:
        """Somebody was asked what to do, and sees that there is nothing to lose."""
        asked, self._asked = self._asked, False
        return asked and not any(self.loads(id_) for id_ in self._manifests if not self.withdrawals.gone(id_))

    def all_load(self) -> None:
        """What was called DURABLE and not let go loads in the end."""
        lost = [id_ for id_ in self.durable.keys() - self._expired - self.rotten if not self.loads(id_)]
        self._hold("I2", not lost, f"{lost} were DURABLE and do not load")

    def _arrived(self, by: Supervisor, manifest: Manifest) -> None:
        """On a drive a manifest is written when its files are in the cloud; at the end of a session, or where no proof can
        ever be had, it may come sooner."""
        if not self.shelf.mounted or not self.shelf.habits.evidence or by.session.ending is not None:
            return
        if any(rank > by.executor.storing.rank for rank in self._claims):
            return  # it stood still after its look, and a successor has removed what no manifest named
        late = [entry.path for entry in manifest.all_files() if not self._there(entry)]
        self._hold("I1", not late, f"the manifest of {manifest.id} was written before {late} were in the cloud")

    def _thaw(self, by: Supervisor, event: ev.Event) -> None:
        """A process that stood still, or lost its mount, is frozen until it saw a listing that is new enough."""
        heard, now = self._heard_at.get(by, self.world.now), self.world.now
        self._heard_at[by] = now
        if by.session.rank is None:
            return
        away = isinstance(event, ev.FenceUnreadable) and event.kind in {"gone", "hung"}
        if now - heard > GAP_S or away:
            self._frozen[by] = now
        if isinstance(event, ev.FenceSeen) and by in self._frozen:
            enough = self._frozen[by] + by.session.config.settle_s
            if self._looked_at[by] >= enough:
                del self._frozen[by]

    def _holds_still(self, by: Supervisor, command: do.Command) -> None:
        words = f"{by.executor.storing.rank} does {type(command).__name__} before it looked again"
        self._hold("I10", by not in self._frozen, words)

    def _still_flies(self, by: Supervisor, event: ev.Unconfirmed) -> None:
        if not event.possible or self.world.now - self._stuck.get(by, self.world.now) > STUCK_AFTER_S:
            self._landed(by, event.folder)  # it may be given up now for a newer one

    def _files_of(self, id_: CheckpointId) -> set[str]:
        return {f"run/{entry.path}" for entry in self._manifests[id_][1].files}

    def _rot_together(self, id_: CheckpointId) -> None:
        """One whose small file was there already, as its mount still shows it, is lost with the one that file rotted under."""
        mine = self._manifests[id_][1].files if id_ in self._manifests else ()
        rotted = {path for each in self.rotten - {id_} for path in self._files_of(each)}
        if any(f"run/{entry.path}" in rotted and not self._there(entry) for entry in mine):
            self.rotten.add(id_)

    def _is_the_only_one(self, manifest: Manifest) -> None:
        """Two checkpoints never have one id; a second try of the same may put its files elsewhere."""
        _, known = self._manifests.get(manifest.id, ("", manifest))
        same = {each.name: each.digest for each in known.files} == {each.name: each.digest for each in manifest.files}
        self._hold("I1", same, f"two checkpoints are {manifest.id}")

    def _rests(self, manifest: Manifest) -> None:
        """No checkpoint rests on a file of another session, nor on one that was not DURABLE."""
        mine = str(Rank(manifest.id.epoch, manifest.id.writer))
        for entry in manifest.files:
            folder = entry.path.rpartition("/")[0]
            self._hold("I8", folder.split("/")[0] == mine, f"{manifest.id} rests on {entry.path}")
            if folder != f"{mine}/step-{manifest.id.step:09d}":
                self.counts["shared files"] = self.counts.get("shared files", 0) + 1
                safe = any(f"run/{entry.path}" in self._files_of(id_) for id_ in self.durable)
                self._hold("I4", safe, f"{manifest.id} rests on {entry.path}, which is not DURABLE")

    def _chose(self, by: Supervisor, event: ev.CheckpointReady) -> None:
        expected = self._expected.get(by)
        self.withdrawals.chose(by, event)
        if expected is not None and (
            expected in self.rotten or expected in self._expired or self.withdrawals.gone(expected)
        ):
            expected = None
        if event.id is not None and event.durable and event.id not in self.durable:
            self._hold("I4", self.loads(event.id), f"{event.id} is taken for DURABLE and does not load")
            self.durable[event.id] = self.world.now
        if event.id is None:
            self._hold("I7", not self._worked[by], "step 0 after work")
            return
        self._hold("I3", expected is None or event.id >= expected, f"{event.id} was chosen, {expected} is DURABLE")
        self._restarts[by] = max(event.id, self._restarts.get(by, event.id))
        body = (Path(event.folder) / "state.json").read_bytes()
        self._hold("I1", body in self._stagings, f"{event.folder} is not what was staged")
        read: dict[str, Any] = json.loads(body)
        self._hold("I1", read["step"] == event.id.step, f"{event.id} holds step {read['step']}")

    def _landed(self, by: Supervisor, folder: str) -> None:
        if self._flying.get(by) == folder:
            del self._flying[by]

    def _hold(self, invariant: str, holds: bool, words: str) -> None:
        if not holds:
            raise Violation(f"{invariant} at {self.world.now:.0f} s: {words}")


def _is_manifest(path: str, body: bytes) -> bool:
    try:
        parse_manifest(path.rpartition("/")[2], body)
    except ValueError:
        return False
    return True


def _is(body: bytes | None, entry: FileEntry) -> bool:
    return body is not None and digest_of((body,), algorithm_of(entry.digest)) == entry.digest
