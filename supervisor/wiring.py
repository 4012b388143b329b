"""The composition root: the one file that picks adapters and builds a session ready to run."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from supervisor.core import liveness, program, recovery, retention, starting
from supervisor.core.deadline import Lifetime
from supervisor.core.errors import FAILED, FAILED_PRECHECKS, FAILED_SETUP, UserError
from supervisor.core.masking import masked_text
from supervisor.core.ports import StoreError
from supervisor.core.session import FINAL, Config, Phase, SaveEvery, Session, unproved
from supervisor.core.status import RunStatus, begun_anew
from supervisor.core.values import dataclass
from supervisor.engine import alerts, equipment, identity, left_here, own_commands, project, retaining, runs, user_key
from supervisor.engine.claims import ranks
from supervisor.engine.clock import BootClock
from supervisor.engine.executor import Executor
from supervisor.engine.files.watched_folder import watch
from supervisor.engine.job import Job, cannot_flush
from supervisor.engine.journal import Journal
from supervisor.engine.leaving import Leaving, kept
from supervisor.engine.loop import Loop
from supervisor.engine.packages import Installer, Packages, Recorded
from supervisor.engine.place import RunPlace
from supervisor.engine.publishing import LiveStatus
from supervisor.engine.succession import Door, following, follows
from supervisor.views import terminal
from supervisor.views.farewell import goodbye
from supervisor.views.lines import teller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.instant import Instant
    from supervisor.core.ports import Platform, Store, Traits
    from supervisor.core.project import Project

LOOK_AGAIN_S = 1.0
SESSION_PATIENCE_S, VERB_PATIENCE_S, ANSWER_MARGIN_S = 60.0, 10.0, 30.0
TRAINERS = ("on_nan", "on_spike", "nan_watch", "watch", "attach", "module")  # options that the trainer is told
UPLOAD_WAIT_S, SLOW_UPLOAD_WAIT_S = 600.0, 1800.0  # at the end, for the last checkpoint; where the proof comes later
RELAY = "relay:"  # before a folder: what lies there is safe when the user's computer has fetched it
CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line chose."""

    script: Path
    arguments: tuple[str, ...]
    store: str | None
    name: str
    settings: Mapping[str, Any]
    takeover: bool = False
    install: bool = True
    json_lines: bool = False
    same_run: bool = False
    trust_store: bool = False
    trust_all: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """What every part of a session stands on."""

    store: Store
    record: runs.Run
    clock: BootClock
    project: Project
    watched: str = ""
    key: str = ""


def serve(choice: Choice) -> int:
    """Serve the run on this machine until its turn ends; return the exit code."""
    program.set_about(choice.name, program.store_option(choice.store))
    clock, key = BootClock(), user_key.read_or_make(os.environ)
    platform = find_platform(os.environ, clock.now())
    if platform.asked is not None:
        platform = replace(platform, lifetime=platform.asked())
    store = open_store(choice.store or platform.store, SESSION_PATIENCE_S, choice.settings["settle"])
    run = RunPlace(choice.name)
    choice = _inherited(choice, platform, store, run)
    if choice.settings["resume"] != "never":
        left_here.require_none(store, run, local_root(os.environ))
    if choice.settings["resume"] == "must":
        require_run(store, run, clock)
    mine = _project(choice)
    record = runs.enter(store, run, choice.script, choice.arguments, _told(choice), mine=mine, same_run=choice.same_run)
    watched = _remember_here(choice, record, store)
    screen = terminal.choose(json_lines=choice.json_lines)
    config = configure(choice, platform, store)
    before = ranks(store, run)
    if words := runs.left_out(store):
        teller(json_lines=choice.json_lines)(words, "")
    known = runs.last_status(store, run, before) or RunStatus(run=run.name, id=record.id)
    known = replace(known, platform=platform.name, place=store.traits.place)
    if choice.settings["resume"] == "never":
        known = begun_anew(known)
    base, door, began_s = Base(store, record, clock, mine, watched, key), Door(), clock.now().mono_s
    alerts.listen_to_signals(door, platform)
    alerts.report_defects(door)
    over = alerts.listen_to_notices(door, platform)
    equipment.tell(platform, os.environ, door)
    gc.freeze()
    gc.enable()
    try:
        session, known = _session(_job(choice, platform, base, screen, config), config, screen, door, known)
        while follows(session):
            config = following(config, began_s, clock)
            began_s = clock.now().mono_s
            session, known = _session(_job(choice, platform, base, screen, config), config, screen, door, known)
    finally:
        over.set()
        screen.close()
    say = teller(json_lines=choice.json_lines)
    there = bool(before) or not _removed(session, choice, store, run, say)
    option = program.store_option(choice.store)
    goodbye(session, choice.name if there else "", known, clock.now(), option=option, json_lines=choice.json_lines)
    leaving = Leaving(platform, store.traits, inbox=door.inbox, clock=clock, say=say)
    keep = choice.settings["keep_machine"] or kept(os.environ)
    leaving.leave(session, safe=not unproved(session), keep=keep)
    return session.ending.exit_code if session.ending else FAILED


def _removed(session: Session, choice: Choice, store: Store, run: RunPlace, say: Callable[[str, str], None]) -> bool:
    """Leave no run behind whose first start was refused before its script ever ran. A fleet's record is its home's."""
    refused = session.ending is not None and session.ending.exit_code in {FAILED_SETUP, FAILED_PRECHECKS}
    if not refused or session.trainer.attempt or session.rank is None or (choice.store or "").startswith(RELAY):
        return False
    try:
        return runs.remove_unstarted(store, run, session.rank)
    except StoreError as error:
        say(f"the run {run.name} stays in the list, because its record cannot be removed: {error}", "")
        return False


def _session(
    job: Job, config: Config, screen: terminal.Screen, door: Door, known: RunStatus
) -> tuple[Session, RunStatus]:
    """Serve one session to its end; return it with the status that it leaves."""
    journal, inbox = Journal(None, known), door.next()
    executor = Executor(job, inbox, journal, screen.say)
    live = LiveStatus(executor, journal)
    loop = Loop(Session(config), job.clock, inbox, journal)

    def watch(now: Instant, value: Any) -> None:
        live.record(now, value)
        screen.record(now, value, journal.status)

    try:
        loop.run(executor.execute, watch)
    finally:
        phase = loop.session.phase
        executor.close(keep=phase not in FINAL or unproved(loop.session), finished=phase is Phase.SUCCEEDED)
    return loop.session, journal.status


def _project(choice: Choice) -> Project:
    """Return the script's project. A machine of a fleet has a copy of it only, so there it is as home told."""
    told = project.told_by(os.environ.get(project.ENVIRONMENT, "")) if (choice.store or "").startswith(RELAY) else None
    return told or project.of(choice.script)


def require_run(store: Store, run: RunPlace, clock: BootClock) -> None:
    """Raise UserError where there is no such run, after the time that names of other machines may take to show."""
    until_s, pause = clock.now().mono_s + store.traits.settle_s, Event()
    try:
        while runs.read(store, run) is None:
            if clock.now().mono_s >= until_s:
                raise UserError(starting.NOTHING_THERE, starting.NOTHING_THERE_HINT, FAILED_PRECHECKS)
            pause.wait(LOOK_AGAIN_S)
    except StoreError as error:
        raise runs.cannot_use(store, error) from error


def find_platform(environ: Mapping[str, str], now: Instant) -> Platform:
    """Return the first platform that recognises this machine."""
    found: Platform = _platform_module(environ).describe(environ, now)
    return found


def open_store(where: str, patience_s: float = VERB_PATIENCE_S, settle_s: float | None = None) -> Store:
    """Return the store at a place, its passing errors tried again. Raises UserError where the platform forbids it.

    On a mounted drive an operation that shows no progress for ``patience_s`` is given up. Nothing here touches the place
    itself, because a dead mount would keep us for ever: the system's table of mounts says what it is.
    """
    from supervisor.stores import mounts, remembered
    from supervisor.stores.retrying import RetryingStore

    if where.startswith(RELAY):
        from supervisor.stores.relay import RelayStore

        return RetryingStore(RelayStore(where.removeprefix(RELAY)))
    _platform_module(os.environ).check_store(where, mounts.is_mount_point, os.environ)
    mount = mounts.mount_of(where, mounts.mounts())
    remembered.check(where, mount, local_root(os.environ) / "mounts")
    if mount is None or not mounts.is_drive(mount):
        from supervisor.stores.folder import FolderStore

        return RetryingStore(FolderStore(where, settle_s=settle_s or 0.0))
    from supervisor.stores.mounted import MountedStore

    store = MountedStore(where, mount=mount, patience_s=patience_s, settle_s=settle_s)
    return RetryingStore(store, patience_s)


def default_store(environ: Mapping[str, str]) -> str:
    """Return where this platform keeps runs."""
    return find_platform(environ, BootClock().now()).store


def local_root(environ: Mapping[str, str]) -> Path:
    """Return where sessions keep their local folders: fast, and allowed to vanish with the machine."""
    for name in ("SUPERVISOR_RUN_LOCAL", "SLURM_TMPDIR"):
        if environ.get(name):
            return Path(environ[name]) / "training-supervisor"
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(cache) / "training-supervisor" / "runs"


def configure(choice: Choice, platform: Platform, store: Store) -> Config:
    """Return the session's configuration from the command line, the platform and the store's traits."""
    settings = choice.settings
    hang = settings["hang_after"]
    watch = liveness.Policy(fixed_s=hang) if isinstance(hang, float) else liveness.Policy(enabled=hang != "none")
    lifetime, age_s = platform.lifetime, platform.age_s
    if settings["budget"] is not None:
        lifetime = Lifetime(settings["budget"], hard=True) if settings["budget"] else None
        age_s = 0.0 if platform.lifetime is None else platform.age_s
    return Config(
        save_every=settings["save_every"],
        restarts=recovery.Policy(settings["max_restarts"], settings["max_preemptions"]),
        liveness=watch,
        lifetime=lifetime,
        age_s=age_s,
        resume=settings["resume"],
        takeover=choice.takeover,
        settle_s=store.traits.settle_s,
        safe_settle_s=store.traits.safe_settle_s,
        silence_s=store.traits.silence_s,
        answer_s=answer_within_s(store.traits),
        upload_wait_s=float(os.environ.get("SUPERVISOR_RUN_UPLOAD_WAIT_S") or _upload_wait_s(store.traits)),
        confirm_every_s=store.traits.confirm_every_s,
        can_flush=platform.flush is not None and store.traits.mounted,
        place=store.traits.place,
        prior_life_s=platform.prior_life_s,
        on_nan=settings["on_nan"],
        on_spike=settings["on_spike"],
        nan_rate=float(settings["nan_rate"]),
    )


def _upload_wait_s(traits: Traits) -> float:
    return SLOW_UPLOAD_WAIT_S if traits.confirm_every_s else UPLOAD_WAIT_S


def answer_within_s(traits: Traits) -> float:
    """Return how long a session that lives may take to answer a knock, in seconds.

    The knock takes the settle time to show there, the answer as long to show here; the session looks at its fence every
    ``fence_every_s``, the first time after a settle time of its own, and its store may be slow.
    """
    return 2 * traits.settle_s + 2 * Config().fence_every_s + ANSWER_MARGIN_S


def _platform_module(environ: Mapping[str, str]) -> Any:
    from supervisor.platforms import TABLE

    modules = (import_module(name) for name in TABLE.values())
    return next(module for module in modules if module.is_here(environ))


def _job(choice: Choice, platform: Platform, base: Base, screen: terminal.Screen, config: Config) -> Job:
    run = RunPlace(choice.name)
    root = local_root(os.environ)
    deadline = None if config.lifetime is None else base.clock.now().wall_s + config.lifetime.seconds - config.age_s
    installer = _installer(choice, screen)
    return Job(
        script=choice.script,
        arguments=choice.arguments,
        run=run,
        run_id=base.record.id,
        store=base.store,
        local_root=root,
        clock=base.clock,
        environments=Packages(base.store, run, installer, root / base.record.id, base.key),
        alive=identity.alive,
        identity=identity.mine(),
        platform=platform.name,
        writer=identity.new_writer(),
        environ=dict(os.environ),
        save_every=_for_trainer(config.save_every),
        retention=retention.Policy(choice.settings["keep_last"], watched=retaining.watched(choice.settings)),
        claim_extra={"options": _told(choice), "script": str(choice.script), "age_s": round(config.age_s, 1)},
        show=screen.printed,
        deadline_wall_s=deadline,
        flush=platform.flush or cannot_flush,
        watched={
            **{f"SUPERVISOR_RUN_{key.upper()}": choice.settings[key] for key in TRAINERS},
            "SUPERVISOR_RUN_LEAVE_OUT_MOST": "1" if choice.trust_all else "",
        },
        watch=replace(
            watch(choice.settings, config.save_every), named_before=base.watched, trusting=choice.trust_store
        ),
        project=base.project,
    )


def _installer(choice: Choice, screen: terminal.Screen) -> Installer:
    from supervisor.core.commands import Say
    from supervisor.environments import prepare as environments

    def say(words: str) -> None:
        screen.say(Say("info", words))

    def make(
        recorded: Recorded | None, wheels: Callable[[Callable[[str], bool]], Path | None]
    ) -> environments.Prepared:
        return environments.prepare(
            choice.script, python=sys.executable, root=CHECKOUT, recorded=recorded.record if recorded else None,
            wheels=wheels, say=say, install=choice.install,
            trusted=choice.trust_all or (recorded is not None and recorded.signed),
        )  # fmt: skip

    def gather(made: Any, into: Path, kept: Mapping[str, int | None]) -> list[Path]:
        from supervisor.environments.wheels import wheels_to_keep

        return wheels_to_keep(made, into, kept, say=say, kept_bytes_max=choice.settings["keep_packages"])

    return Installer(make, gather)


def _remember_here(choice: Choice, record: runs.Run, store: Store) -> str:
    """Keep the command on this machine; return the folder that it or an earlier one here has named with ``--watch``."""
    there, local = store.traits.where, local_root(os.environ) / record.id
    before = own_commands.read(local, there, choice.name)
    watched = choice.settings["watch"] or (before.watched if before else "")
    own_commands.write(
        local,
        own_commands.OwnCommand(there, choice.name, str(choice.script), choice.arguments, _remembered(choice), watched),
    )
    return str(watched)


def _remembered(choice: Choice) -> dict[str, Any]:
    settings = {**choice.settings}
    every: SaveEvery = settings.pop("save_every")
    settings["save_every"] = every.unit if every.unit == "auto" else f"{every.value:g}{every.unit}"
    return {**settings, "install": choice.install}


def _told(choice: Choice) -> dict[str, Any]:
    """Return the options as a store is told them: without what is secret in them."""
    return {
        name: masked_text(value) if isinstance(value, str) else value for name, value in _remembered(choice).items()
    }


def _for_trainer(every: SaveEvery) -> str:
    return f"{every.value:g}{every.unit}" if every.unit in {"steps", "ep"} else "asked"


def _inherited(choice: Choice, platform: Platform, store: Store, run: RunPlace) -> Choice:
    """Bring what an earlier session of this platform kept. Who wrote it can write no more, so it is not waited for."""
    if platform.earlier is None or choice.store is not None:
        return choice
    from supervisor.engine.inheriting import bring
    from supervisor.stores.folder import FolderStore

    brought = bring(store, run, platform.earlier(run.name), FolderStore, teller(json_lines=choice.json_lines))
    return replace(choice, takeover=True) if brought else choice
