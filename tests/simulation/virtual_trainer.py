"""A trainer whose every state follows from the one before it, so that a run that was resumed wrongly shows it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import messages
from supervisor.core.content import FORMAT
from supervisor.core.digest import XXH3, digest_of
from tests.simulation.troubles import Bad, Noticing, base, shows, sick_since

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.core.rollback import Rollback
    from tests.simulation.virtual_supervisor import Supervisor
    from tests.simulation.world import Machine, World


SLOW_STEPS = 60


class Chain:
    """The uninterrupted run: the state after each step and the row it logs. ``bad``: batches that ruin the weights."""

    def __init__(self, seed: int, total: int, bad: Bad | None = None) -> None:
        self.total = total
        self.bad = bad or Bad()
        self.states = [hashlib.sha256(f"run {seed}".encode()).hexdigest()[:16]]
        for step in range(total):
            self.states.append(following(self.states[-1], step))

    @staticmethod
    def following(state: str, step: int) -> str:
        """Return the state after ``step``."""
        return following(state, step)

    @staticmethod
    def row(state: str, step: int) -> dict[str, Any]:
        """Return what a step logs."""
        return row(state, step)

    def rows(self) -> list[dict[str, Any]]:
        """Return the step log of the uninterrupted run."""
        return [row(self.states[step], step) for step in range(self.total)]


def following(state: str, step: int) -> str:
    """Return the state after ``step``; what is sick stays so."""
    well, mark, since = state.partition(":")
    return hashlib.sha256(f"{well} {step}".encode()).hexdigest()[:16] + mark + since


def slow_part(chain: Chain, step: int) -> bytes:
    """Return the part of the state that changes now and then only, as what is frozen in a model does."""
    return f"since {step - step % SLOW_STEPS}: {chain.states[step - step % SLOW_STEPS]}".encode()


def row(state: str, step: int) -> dict[str, Any]:
    """Return what a step logs. Some losses are no numbers, as it happens."""
    loss = int(state[:6], 16) / 1e6 + ((sick_since(state) or -1) + 1)  # which shows a training on sick weights
    return {"step": step, "loss": "nan" if state[0] == "f" else loss}


@dataclass(eq=False)
class Trainer:
    """One attempt. Steps are done in bursts, each with a beat."""

    supervisor: Supervisor
    attempt: int
    staging: Path
    chain: Chain
    step_s: float = 20.0
    step: int = 0
    state: str = ""
    gone: bool = False
    stopping: messages.Stop | None = None
    save_asked: bool = False
    hangs: bool = False
    deaf: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    rolled: Sequence[Rollback] = ()

    def __post_init__(self) -> None:
        self.watch = Noticing(self)

    @property
    def machine(self) -> Machine:
        """Where it runs."""
        return self.supervisor.machine

    @property
    def world(self) -> World:
        """What it runs in."""
        return self.machine.world

    def begin(self, checkpoint: str) -> None:
        """Start: restore, then step."""
        self.state = self.chain.states[0]
        if checkpoint:
            body = json.loads((Path(checkpoint) / "state.json").read_bytes())
            self.step, self.state = body["step"], body["state"]
            slow = (Path(checkpoint) / "slow.safetensors").read_bytes()
            self.supervisor.observer.restored_slow_part(self.supervisor, self.step, slow)
        self.watch.begins(self.step)
        self.supervisor.observer.restored(self.supervisor, self.step, self.state)
        self.machine.processes.append(self)
        self.world.after(3.0, self, self._greet)

    def die(self) -> None:
        """End without a word."""
        self.gone = True
        if self in self.machine.processes:
            self.machine.processes.remove(self)

    def exit(self, code: int, *, oom: bool = False) -> None:
        """End; the supervisor hears of it."""
        if not self.gone:
            self.die()
            self.supervisor.trainer_exited(code, oom=oom)

    def tell(self, message: messages.Save | messages.Stop) -> None:
        """Hear the supervisor."""
        if isinstance(message, messages.Stop):
            self.stopping = message
        else:
            self.save_asked = True
        self.world.after(1.0, self, self._boundary)

    def end(self, how: str) -> None:
        """Hear a signal. One that is stopped hears only SIGKILL."""
        if how == "kill" or not self.deaf:
            code = {"stacks": -6, "term": -15, "kill": -9}[how]
            self.world.after(0.5, self, lambda: self.exit(code))

    def orphaned(self) -> None:
        """The supervisor is gone: stage what was done and end, if there is time for it."""
        if not self.hangs and self.world.chance.random() < 0.5 and self.rows:
            self._stage()
        self.die()

    def _greet(self) -> None:
        self._say(messages.Hello(7, self.attempt, attached=True))
        self._say(messages.Restored(self.step, 0.1))
        self._beat()

    def _beat(self) -> None:
        if self.hangs:
            return
        self._say(
            messages.Beat(
                self.step, "step", self.chain.total, None, self.step_s, {"step": self.step_s * self.step},
                {"step": self.step_s}, {"loss": "NaN" if self.state[0] == "e" else 1.0},
            )
        )  # fmt: skip
        burst = self.world.chance.choice([1, 2, 3])
        self.world.after(burst * self.step_s, self, lambda: self._work(burst))

    def _work(self, steps: int) -> None:
        if self.hangs:
            return
        for _ in range(min(steps, self.chain.total - self.step)):
            self._step()
        if self.world.chance.random() < 0.5 if self.chain.bad.batches else False:
            self.watch.looks()
        if self.step < self.chain.total:
            self._beat()
            return
        self._say_staged("final")
        self._say(messages.Finished(self.step))
        self.world.after(1.0, self, lambda: self.exit(0))

    def _step(self) -> None:
        if any(each.tries and each.skip_from <= self.step < each.skip_end for each in self.rolled):
            self.rows.append({"step": self.step, "skipped": True})
            self.step += 1
            return
        if self.chain.bad.batches:
            self.supervisor.observer.withdrawals.did(self.supervisor, self.step)
        if self.chain.bad.poisons(self.step):
            self.state = f"{base(self.state)}:{self.step}"
        self.watch.saw(self.step, nan=shows(self.state, self.step, self.chain.bad))
        self.rows.append(row(self.state, self.step))
        self.state = following(self.state, self.step)
        self.step += 1

    def _boundary(self) -> None:
        if self.hangs:
            return
        if self.stopping is not None:
            if self.stopping.save:
                self._say_staged("stop")
            self._say(messages.Stopped(self.step))
            self.exit(0)
        elif self.save_asked:
            self.save_asked = False
            self._say_staged("asked")

    def _say_staged(self, reason: str) -> None:
        if self.world.chance.random() < 0.02 and self.world.hostility.error_at_op:
            self._say(messages.SaveFailed(self.step, "No space left on device"))
        elif folder := self._stage():
            self._say(messages.Staged(self.step, folder, 100, reason, 4.0, 2.0))

    def _stage(self) -> str:
        if self.watch.looks():
            return ""
        number = self.supervisor.next_staging()
        name = f"step-{self.step:09d}-{number}"
        temporary = self.staging / f".tmp-{self.step}-{number}"
        try:
            temporary.mkdir()
        except FileNotFoundError:
            return ""
        by = f"{self.supervisor.executor.storing.rank} attempt {self.attempt} number {number}"
        bodies = {
            "state.json": json.dumps({"step": self.step, "state": self.state, "by": by}).encode(),
            "slow.safetensors": slow_part(self.chain, self.step),
            "log.jsonl": "".join(json.dumps(each) + "\n" for each in self.rows).encode(),
        }
        files = [
            {"name": file, "bytes": len(body), "digest": digest_of((body,), XXH3)} for file, body in bodies.items()
        ]
        metrics = {"loss": "NaN" if self.state[0] == "e" else self.step / 10}
        seal = {"format": FORMAT, "version": 1, "step": self.step, "metrics": metrics, "files": files}
        for file, body in {**bodies, "checkpoint.json": json.dumps(seal).encode()}.items():
            (temporary / file).write_bytes(body)
        temporary.rename(self.staging / name)
        self.supervisor.observer.staged(bodies["state.json"])
        self.rows = []
        return name

    def _say(self, message: messages.Message) -> None:
        if not self.gone:
            self.supervisor.trainer_said(message)
