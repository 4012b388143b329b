"""What sessions on a drive told: the JSON lines of `start --json`, read as people and programs may rely on them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kills import differences
from benchmarks.machines import TOY, Machine, Turn, final_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.drives.drive import Drive

RUN = TOY.stem
OPTIONS = ("--json", "--settle", "300ms", "--max-restarts", "1000", "--no-install")
Id = tuple[int, int]  # of a checkpoint: its session's epoch, and its step


def begin(
    machine: Machine, *, steps: int, step_ms: float = 10, save_every: str = "300ms", options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Turn:  # fmt: skip
    """Start or resume the toy's run on a machine."""
    arguments = ("--steps", str(steps), "--step-ms", str(step_ms), "--state-mb", "0.3")
    return machine.start(TOY, *OPTIONS, "--save-every", save_every, *options, arguments=arguments, environ=environ)


def records(turn: Turn, kind: str) -> list[dict[str, Any]]:
    """Return what happened or was commanded of a kind, oldest first."""
    return [record for record in _lines(turn) if record.get("is") == kind]


def step(turn: Turn) -> int:
    """Return the newest step that the trainer told."""
    beats = [each["message"] for each in records(turn, "TrainerSaid") if each["message"]["is"] == "Beat"]
    return max((beat["step"] for beat in beats), default=0)


def safe(turn: Turn) -> list[Id]:
    """Return what the session called safe."""
    return [_id(each) for each in records(turn, "Durable")]


def restored(turn: Turn) -> list[Id]:
    """Return what attempts went on from; (0, 0) is the beginning."""
    return [_id(each) if each["id"] else (0, 0) for each in records(turn, "CheckpointReady")]


def words(turn: Turn, level: str = "") -> list[str]:
    """Return what was said to people."""
    return [each["words"] for each in records(turn, "Say") if level in {"", each["level"]}]


def hints(turn: Turn) -> list[str]:
    """Return what people were told to do."""
    return [each["hint"] for each in records(turn, "Say") if each["hint"]]


def last_lines(turn: Turn) -> list[str]:
    """Return what was printed for people besides the JSON lines: the two lines of an error."""
    return [line for line in turn.text.splitlines() if line and not line.startswith("{")]


def in_the_cloud(drive: Drive) -> dict[str, Any]:
    """Return what makes up the run as the cloud has it: what is still on the machine's disk does not count."""
    return final_state(drive.uploaded / "supervisor", RUN)


def same(got: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Fail with words unless the run is the uninterrupted one, bit for bit (I18)."""
    assert differences(got, wanted) == []
    return True


def left_behind(machine: Machine) -> list[int]:
    """Return the processes of a machine that still live."""
    mark = f"SUPERVISOR_RUN_LOCAL={machine.local}".encode()
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _environ(each).count(mark) and _lives(each)]


def _lines(turn: Turn) -> Iterator[dict[str, Any]]:
    for line in turn.text.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                continue  # it is being written just now, or its writer was killed in it


def _id(record: dict[str, Any]) -> Id:
    return record["id"]["epoch"], record["id"]["step"]


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def _lives(process: Path) -> bool:
    try:
        return "Z" not in (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def end_all(machine: Machine) -> None:
    """Kill whatever of a machine lives, and do not wait: who hangs in a dead drive dies when that does."""
    for pid in left_behind(machine):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
