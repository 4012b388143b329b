"""The adversary as rules: two or three machines' real use cases on one drive, every arrival, loss and error in any order."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisor.core import claim, retention
from supervisor.core import commands as do
from supervisor.core import events as ev
from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.core.session import Config, Session
from supervisor.engine.fenced import Outranked
from supervisor.engine.job import Job
from supervisor.engine.storing import Storing
from tests.simulation.drive_view import DriveView
from tests.simulation.observer import Observer, Violation
from tests.simulation.virtual_drive import CONFIRM_EVERY_S, SETTLE_S, Drive, Habits
from tests.simulation.virtual_supervisor import KEEP, RUN, Environments
from tests.simulation.virtual_trainer import Chain, Trainer, following, row
from tests.simulation.world import CALM, Hostility, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # because it only reckons, which a busy machine does slowly
STORM = Hostility(error_at_op=0.1, lost_answer=0.05)
NEVER_S = 1e9
LIVES = 800  # of each seed
MACHINES = st.integers(0, 2)


class Hand:
    """One session's use cases, without the machine that decides: the rules decide."""

    def __init__(self, drive: Drive, observer: Observer, chain: Chain, machine) -> None:
        self.machine, self.observer, self.chain, self.gone = machine, observer, chain, False
        self.writer = f"{drive.world.chance.getrandbits(32):08x}"
        self.session = Session(Config(settle_s=SETTLE_S, confirm_every_s=CONFIRM_EVERY_S))
        self.numbers = iter(range(1, 1000))
        view = DriveView(drive, drive.world, observer)
        view.process = self
        self.executor = SimpleNamespace(storing=Storing(self._job(view)))
        self.on_its_way: Path | None = None
        observer.sessions[self.writer] = self
        self.trainer: Trainer | None = None

    @property
    def storing(self) -> Storing:
        return self.executor.storing

    def next_staging(self) -> int:
        return next(self.numbers)

    def does(self, act):
        """Do it as the executor does: what fails is an event or nothing."""
        try:
            event = act()
        except (StoreError, UserError, Outranked, OSError):
            return None
        if isinstance(event, ev.Event):
            self.observer.happened(self, event)
        return event

    def goes_on(self) -> bool:
        """Restore, and have a trainer."""
        self.observer.commanded(self, do.Restore())
        ready = self.does(lambda: self.storing.restore(afresh=False))
        if not isinstance(ready, ev.CheckpointReady):
            return False
        self.trainer = Trainer(self, 1, self.storing.local.staging, self.chain, state=self.chain.states[0])
        if ready.id is not None:
            body = json.loads((Path(ready.folder) / "state.json").read_bytes())
            self.trainer.step, self.trainer.state = body["step"], body["state"]
        self.observer.restored(self, self.trainer.step, self.trainer.state)
        return True

    def works(self, steps: int) -> Path:
        """Train and stage."""
        trainer = self.trainer
        for _ in range(min(steps, self.chain.total - trainer.step)):
            trainer.rows.append(row(trainer.state, trainer.step))
            trainer.state = following(trainer.state, trainer.step)
            trainer.step += 1
        folder = self.storing.local.staging / trainer._stage()
        self.storing.take_log(folder)
        return folder

    def _job(self, view: DriveView) -> Job:
        machine = self.machine

        def alive(claimed):
            return (
                None if claimed.get("machine") != machine.number else not self.observer.sessions[claimed["writer"]].gone
            )

        return Job(
            script=Path("train.py"), arguments=(), run=RUN, run_id="0123", store=view, local_root=machine.root,
            clock=machine, environments=Environments(), alive=alive, platform="virtual", writer=self.writer, environ={},
            identity={"machine": machine.number, "writer": self.writer}, save_every="asked", shared_bytes_min=1,
            retention=retention.Policy(KEEP), claim_extra={}, show=lambda _: None,
        )  # fmt: skip


def told(act):
    """Let hypothesis see a broken law as what it shrinks."""

    @functools.wraps(act)
    def acted(*arguments, **options):
        try:
            return act(*arguments, **options)
        except Violation as violation:
            raise AssertionError(str(violation)) from violation

    return acted


class DriveRules(RuleBasedStateMachine):
    """Nothing arrives, fails or is lost but by a rule. The laws are those of the hostile hours."""

    @initialize(seed=st.integers(0, 2**16), lag_s=st.sampled_from([0.0, 10.0]), lie=st.booleans())
    @told
    def begin(self, seed: int, lag_s: float, *, lie: bool) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="rules-", dir=memory if memory.is_dir() else None))
        self.world = World(seed, self.folder)
        habits = Habits(lag_s, NEVER_S, torn=0.2, twin=0.05, twin_folder=0.05, lie=0.5 * lie, resurrect=0.5)
        self.drive = Drive(self.world, habits)
        self.chain = Chain(seed, 200)
        self.observer = Observer(self.world, self.drive, self.chain, KEEP)
        self.hands: list[Hand | None] = [None, None, None]
        self.machines = [self.world.machine() for _ in self.hands]
        self.hands[0] = self._started(0)

    @rule(which=MACHINES)
    @told
    def start(self, which: int) -> None:
        """Somebody starts there: claim, settle, look, go on; whoever sees itself outranked ends."""
        if self.hands[which] is None:
            self.hands[which] = self._started(which)
            self._clears_up()

    @rule(which=MACHINES, steps=st.integers(1, 9))
    @told
    def save(self, which: int, steps: int) -> None:
        """A checkpoint is staged and, while none is on its way, sent."""
        if hand := self._one(which):
            self._save(hand, steps)
            self._clears_up()

    @rule(which=MACHINES, times=st.integers(1, 3))
    @told
    def confirm(self, which: int, times: int) -> None:
        """The evidence is asked for, as often as one likes but not sooner than a session would."""
        if hand := self._one(which):
            self._confirm(hand, times)
            self._clears_up()

    @rule(which=MACHINES, times=st.integers(1, 4))
    @told
    def all_is_well(self, which: int, times: int) -> None:
        """Checkpoints become DURABLE one after the other, and old ones are removed."""
        self._clears_up()
        for _ in range(times):
            if hand := self._one(which):
                self._save(hand, 3)
                for _ in range(3):
                    self._arrive(0, len(self.world._heap))
                    self._confirm(hand, 2)
                self._does(hand, hand.storing.retain)

    @rule(which=MACHINES)
    @told
    def retain(self, which: int) -> None:
        """Old ones are removed."""
        if hand := self._one(which):
            self._does(hand, hand.storing.retain)
            self._clears_up()

    @rule(which=MACHINES)
    @told
    def look(self, which: int) -> None:
        """A session looks at its fence."""
        if hand := self._one(which):
            self._does(hand, hand.storing.look_at_fence)

    @rule(which=MACHINES)
    @told
    def supervisor_dies(self, which: int) -> None:
        """The process ends without a word; its machine, its staging and its cache stay."""
        if hand := self.hands[which]:
            hand.gone, self.hands[which] = True, None

    @rule(which=MACHINES, steps=st.integers(1, 9))
    @told
    def supervisor_dies_with_a_checkpoint_on_its_way(self, which: int, steps: int) -> None:
        """The process ends after it has sealed one, and another starts on the same machine."""
        hand = self.hands[which]
        if hand is not None and hand.on_its_way is None:
            self._save(hand, steps)
            self._arrive(0, len(self.world._heap))
            self._confirm(hand, 2)
            self.supervisor_dies(which)
            self.start(which)

    @rule(which=MACHINES)
    @told
    def machine_dies(self, which: int) -> None:
        """What it had not sent is gone, and another comes in its place."""
        self.supervisor_dies(which)
        self.machines[which].die()
        self.machines[which] = self.world.machine()

    @rule(which=MACHINES)
    def cache_is_lost(self, which: int) -> None:
        """The mount is back, with an empty cache."""
        self.drive.mount(self.machines[which]).lose_cache()

    @precondition(lambda self: bool(self.world._heap))
    @rule(which=st.integers(0, 2**16), number=st.integers(1, 12))
    def arrive(self, which: int, number: int) -> None:
        """Some of what clients still have to do is done, in any order: files sent, sent whole, cut, removed."""
        self._arrive(which, number)

    @rule(seconds=st.sampled_from([1.0, 15.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        """Listings get younger."""
        self.world.now += seconds

    @rule(kind=st.sampled_from(["storm", "storm", "full", "gone", "unreadable"]))
    def trouble(self, kind: str) -> None:
        """What is done next fails, at once or somewhere in it."""
        if kind == "storm":
            self.world.hostility = STORM
        else:
            self.drive.broken = kind

    @invariant()
    @told
    def what_was_called_durable_loads(self) -> None:
        if hasattr(self, "observer"):
            self.observer.all_load()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _clears_up(self) -> None:
        self.world.hostility, self.drive.broken = CALM, ""

    def _one(self, which: int) -> Hand | None:
        living = [each for each in self.hands if each is not None]
        return living[which % len(living)] if living else None

    def _started(self, which: int) -> Hand | None:
        hand = Hand(self.drive, self.observer, self.chain, self.machines[which])
        looked = hand.does(hand.storing.look)
        if looked is not None and hand.does(lambda: hand.storing.claim(claim.next_epoch(looked.names))) is not None:
            self.world.now += SETTLE_S
            looked = hand.does(hand.storing.look)
            if looked is not None and not claim.judge(looked.names, hand.storing.rank) and hand.goes_on():
                return hand
        hand.gone = True
        return None

    def _save(self, hand: Hand, steps: int) -> None:
        folder, step = hand.works(steps), hand.trainer.step
        if hand.on_its_way is None:
            self._does(hand, lambda: hand.storing.publish(folder, step, lambda _: None), folder)

    def _confirm(self, hand: Hand, times: int) -> None:
        for _ in range(times):
            self.world.now += CONFIRM_EVERY_S
            if (folder := hand.on_its_way) is not None and not hand.gone:
                self._does(hand, lambda: hand.storing.confirm(folder), folder)

    def _arrive(self, which: int, number: int) -> None:
        heap = self.world._heap
        for each in range(min(number, len(heap))):
            *_, act = heap.pop((which + each) % len(heap))
            act()

    def _does(self, hand: Hand, act, folder: Path | None = None) -> None:
        if hand.gone:
            return
        match event := hand.does(act):
            case ev.FenceSeen() if claim.judge(event.names, hand.storing.rank):
                hand.gone = True
                self.hands[self.hands.index(hand)] = None
            case ev.Submitted() | ev.Unconfirmed():
                hand.on_its_way = folder
            case ev.Durable() | ev.PublishFailed():
                hand.on_its_way = None
            case None if folder is not None:
                hand.on_its_way = None


def follow_the_rules(seed: int, examples: int, phases: list[Phase]) -> None:
    """Try so many lives. Raises AssertionError at the shortest that breaks a law."""
    chosen = settings(
        max_examples=examples, stateful_step_count=25, deadline=None, database=None, phases=phases, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(seeded(seed)(DriveRules), settings=chosen)


@pytest.mark.parametrize("seed", [1, *(pytest.param(each, marks=pytest.mark.more) for each in (2, 3))])
def test_no_order_of_what_a_drive_may_do_breaks_a_law(seed):
    follow_the_rules(seed, LIVES, [Phase.generate, Phase.shrink])
