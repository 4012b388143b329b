"""The readers of all records, each with golden bodies, as ``benchmarks.fuzz`` feeds them."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from supervisor.core import carried, content, environment, fields, messages, relayed, rollback
from supervisor.core import checkpoint as cp
from supervisor.core import fleet_words as fw
from supervisor.core import status as core_status
from supervisor.core.claim import Rank, rank_of
from supervisor.core.content import CONTENT_FILE, ContentError
from supervisor.core.digest import SHA256, digest_of
from supervisor.core.errors import UserError
from supervisor.core.ports import Entry, Missing, StoreError
from supervisor.core.provisioning import Machine
from supervisor.engine import claims, history, journal, notes, receipts, runs, steplog
from supervisor.engine.place import RunPlace
from supervisor.fleet import consignment, controller, hands, parcels
from supervisor.stores.folder import FolderStore
from supervisor.trainer import folder, rng

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).resolve().parent.parent / "tests" / "golden"
GOLDEN, TOLD = TESTS / "store", TESTS / "told"
RUN, RANK = RunPlace("run"), Rank(3, "b4dc8281")
RECEIPT = "verified-3-40-b4dc8281-1005-0123abcd.json"
PIECE = "log-000001-000000000-000001000.jsonl"
NAMED = (StoreError, ContentError, cp.ManifestError, UserError, ValueError)


class Reader(NamedTuple):
    """``read`` takes what was made of one of the ``bodies``; a ``named`` error is an answer, any other is a defect."""

    bodies: list[bytes]
    read: Callable[[bytes], Any]
    named: tuple[type[Exception], ...] = (StoreError, ContentError, cp.ManifestError, UserError, parcels.ParcelError)


class OneRecord:
    """A store that has one body under one name, in the run's folder or in its session's."""

    def __init__(self, name: str, body: bytes) -> None:
        self.name, self.body = name, body

    def list(self, folder: str) -> list[Entry]:
        if folder == RUN.name:
            return [Entry(self.name, folder=False, bytes=len(self.body)), Entry(str(RANK), folder=True)]
        return [Entry(self.name, folder=False, bytes=len(self.body))] if folder == f"{RUN.name}/{RANK}" else []

    def read(self, path: str) -> bytes:
        if path.endswith(f"/{self.name}"):
            return self.body
        raise Missing(path)


def one_record(name: str, body: bytes) -> Any:
    """Return such a store; readers call nothing else of a store."""
    return OneRecord(name, body)


def golden(pattern: str, root: Path = GOLDEN) -> list[bytes]:
    """Return the golden files of one kind."""
    return [path.read_bytes() for path in sorted(root.rglob(pattern))]


@cache
def scratch() -> Path:
    """Return a folder that goes with this process."""
    made = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def manifest(body: bytes) -> Any:
    """Read a manifest under the name that its bytes give it, and write it again."""
    return cp.manifest_body(cp.parse_manifest(cp.manifest_name(1, body), body))


def sealed(body: bytes) -> Any:
    """Read a checkpoint.json whose seal is right."""
    above = body.rpartition(b',\n "digest"')[0]
    seal = f',\n "digest": "sha256:{hashlib.sha256(above).hexdigest()}"\n}}'.encode()
    return content.parse(above + seal)


def pieces(body: bytes) -> Any:
    """Read a piece of the journal, and print the status that it leads to."""
    return core_status.to_json(journal.replay(*journal.parse_piece(body)), None)


def record(body: bytes) -> Any:
    """Read a run's record."""
    return runs.read_whole(one_record("run.json", body), RUN)


def claim(body: bytes) -> Any:
    """Read a claim, and what the run is taken for by it."""
    store = one_record("claim.json", body)
    return claims.local_folder(claims.read_claim(store, RUN, RANK)), runs._left_by_sessions(store, RUN)  # noqa: SLF001


def end(body: bytes) -> Any:
    """Read the record of a session's end."""
    return claims.read_end(one_record("end-failed.json", body), RUN, RANK)


def carried_on(body: bytes) -> Any:
    """Read a history that a session left."""
    return history._carried(one_record("history.json", body), RUN, RANK)  # noqa: SLF001


def receipt(body: bytes) -> Any:
    """Read a receipt."""
    return receipts.read(one_record(RECEIPT, body), RUN)


def request(body: bytes) -> Any:
    """Read a request to stop."""
    return claims.stop_requests(one_record(f"stop-{RANK}-now-0123abcd.json", body), RUN)


def names(body: bytes) -> Any:
    """Read a name in the store."""
    name = body.decode("utf-8", "surrogateescape")
    return (
        rank_of(name),
        rollback.parse(RANK, name),
        receipts.NAME.fullmatch(name),
        fields.is_plain_name(name),
        runs.NAME.fullmatch(name),
    )


def kept_environment(body: bytes) -> Any:
    """Read a record of an environment, and say how it differs from another one."""
    read = environment.Record.from_bytes(body)
    (first,) = golden("e00000001-e07acb97/environment.txt")
    return read.name, read.versions(), environment.drift(environment.Record.from_bytes(first), read)


def rows(body: bytes) -> Any:
    """Read a piece of the step log."""
    found = steplog.read(one_record(PIECE, body), RUN)
    return list(found.rows), [str(gap) for gap in found.gaps], steplog._whole_lines(body)  # noqa: SLF001


def channel(body: bytes) -> Any:
    """Read what a trainer sends, and send it again."""
    _, heard = messages.feed(b"", body)
    return [messages.encode(each) for each in heard if not isinstance(each, messages.Malformed)]


def spoken() -> list[bytes]:
    """Return one line of each message that there is."""
    said: list[messages.Message] = [
        messages.Hello(7, 1, attached=True, framework="torch", device="cpu"),
        messages.Beat(5, "step", 10, 0.5, 0.1, {"step": 1.0}, {"step": 0.2}, {"loss": 0.5, "name": "x", "none": None}),
        messages.Restored(5, 0.5),
        messages.Staged(5, "step-000000005-0001", 100, "interval", 0.1, 0.2),
        messages.SaveFailed(5, "full"),
        messages.Saved("/a/b.pt", 5),
        messages.ReadBack("a", late=True, loaded="network"),
        messages.Note("warning", "words", "hint"),
        messages.Trouble(5, "loss", "nan", "nan", 4),
        messages.ScriptFailed("code", "ValueError", "words", "train.py:3"),
        messages.Stopped(5),
        messages.Finished(5, 10, "thread"),
        messages.Save("asked"),
        messages.Stop("asked", save=True, grace_s=30.0),
    ]
    return [messages.encode(each) for each in said]


def in_folder(name: str) -> Callable[[bytes], Any]:
    """Return the reader of a checkpoint's folder one of whose files is another one, its length and digest told right."""
    source = min(GOLDEN.rglob("step-*/state.json")).parent  # all its files lie beside it

    @cache
    def place() -> Path:
        return Path(shutil.copytree(source, scratch() / f"checkpoint-{name}"))

    def read(body: bytes) -> Any:
        at = place()
        (at / name).write_bytes(body)
        told = json.loads((source / CONTENT_FILE).read_bytes())
        for each in told["files"]:
            if each["name"] == name:
                each |= {"bytes": len(body), "digest": digest_of((body,), SHA256)}
        named = {key: value for key, value in told.items() if key not in {"format", "version", "digest"}}
        (at / CONTENT_FILE).write_bytes(content.sealed(named))
        opened = folder.open_folder(at)
        opened.load({each: folder.Wanted(node, {}) for each, node in opened.state["objects"].items()})
        return rng.states(opened.rng) if name == folder.RNG_FILE else None

    return read


def headers() -> list[bytes]:
    """Return headers of parcels: of pieces of golden files, and one with a letter."""
    paths = [path for path in sorted((GOLDEN / "golden").rglob("*")) if path.is_file() and path.stat().st_size < 5000]
    told = []
    for path in paths[:12]:
        body = path.read_bytes()
        piece = {
            "path": f"golden/{path.relative_to(GOLDEN / 'golden')}", "offset": 0, "bytes": len(body), "total": len(body),
            "digest": digest_of((body,), SHA256),
        }  # fmt: skip
        told.append({"version": 1, "n": 3, "origin": "o", "entries": [piece], "letter": None})
    letter = {"to": "o", "parcels": [1, 2], "held": ["golden/a"], "refused": {"golden/b": "why"}, "wanted": []}
    told.append({"version": 1, "n": 4, "origin": "o", "entries": [], "letter": letter})
    return [json.dumps(each).encode() for each in told]


def parcel(body: bytes) -> Any:
    """Read a parcel with such a header, its sum right, and say of each piece whether home would take it."""
    try:
        entries = json.loads(body)["entries"]
        length = sum(each["bytes"] for each in entries)
        room = b"\0" * length if 0 <= length <= 1 << 20 else b""
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        room = b""
    inside = parcels.MAGIC + len(body).to_bytes(8, "big") + body + room
    file = scratch() / "some.parcel"
    file.write_bytes(inside + hashlib.sha256(inside).digest())
    return [home()._refused(piece) for piece, _ in parcels.read(file)]  # noqa: SLF001


@cache
def home() -> Any:
    """Return the end of the relay on the user's computer, over an empty store."""
    from supervisor.engine.clock import BootClock
    from supervisor.fleet.relay import HomeRun

    return HomeRun(FolderStore(str(scratch() / "home")), RunPlace("golden"), scratch() / "state", BootClock())


def report(body: bytes) -> Any:
    """Poll a machine whose status is this; what cannot be understood is a failed call, and nothing else."""

    def get(_machine: Machine, _name: str, local: str) -> None:
        Path(local).write_bytes(body)

    provisioner = cast("Any", SimpleNamespace(get=get, put=lambda *_: None, machines=list, traits=None))
    here = hands.Home(cast("Any", FolderStore(str(scratch() / "home"))), RunPlace("golden"), home(), scratch() / "poll")
    shipment = cast("Any", None)
    polled = hands.FleetHands(
        provisioner, here, shipment, describe=lambda plain: str(plain.get("step")), release_at_s=lambda: None
    )
    return polled.do(fw.Poll(Machine("machine-1", "endpoint")))


def reports() -> list[bytes]:
    """Return statuses of a machine."""
    run = json.loads((TOLD / "status-golden.json").read_bytes())
    told = {
        "schema": 1, "beat": 5, "pid": 7, "since": "9", "age_s": 60.5, "run": run, "output": "", "phase": "running", "words": "",
        "exit_code": None, "waiting_files": 0, "parcels": [{"file": "outbox/a.parcel", "bytes": 9, "sha256": "0" * 64}],
        "warnings": ["a save failed"], "watched": True, "error": "",
    }  # fmt: skip
    return [json.dumps(told).encode(), json.dumps({**told, "phase": "done", "exit_code": 0}).encode()]


def acknowledged(body: bytes) -> Any:
    """Read the list of what home holds."""
    known = relayed.Acknowledged()
    known.read(body)
    return sorted(known.held), sorted(known.parcels)


def acknowledgements() -> list[bytes]:
    """Return lists of what home holds."""
    told = [{"held": ["a/b"]}, relayed.arrived(3, [("a/c", 0)]), {"refused": {"a/d": "why"}}, {"wanted": ["a/b"]}]
    return [b"".join(map(relayed.line, told))]


def in_scratch(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Return a reader of a file of this name on the local disk."""

    def read_it(body: bytes) -> Any:
        (scratch() / name).write_bytes(body)
        return read(scratch() / name)

    return read_it


def jobs() -> list[bytes]:
    """Return what a machine is sent to do."""
    told = {
        "schema": 1, "name": "golden", "script": "project/golden.py", "arguments": ["--a", "1"], "options": ["--keep-last", "3"],
        "seed": [{"sha256": "0" * 64}], "release_at_s": 40000.0, "project": {"folder": "p", "path": "golden.py", "lines": ["a"]},
    }  # fmt: skip
    return [json.dumps(told).encode()]


@cache
def readers() -> dict[str, Reader]:
    """Return every reader by the name of its record."""
    written = receipts.Receipt().evidence
    return {
        "manifest": Reader(golden("manifest-*.json"), manifest),
        "checkpoint.json": Reader(golden("checkpoint.json"), sealed),
        "files.json": Reader(golden("files.json"), carried.parse),
        "state.json": Reader(golden("state.json"), in_folder("state.json")),
        "rng.json": Reader(golden("rng.json"), in_folder("rng.json")),
        "safetensors": Reader(golden("state-00000.safetensors"), in_folder("state-00000.safetensors")),
        "environment": Reader(golden("environment.txt"), kept_environment, NAMED),
        "journal": Reader(golden("journal-*.jsonl"), pieces),
        "step log": Reader([*golden("log-*.jsonl"), *golden("log.jsonl")], rows),
        "run.json": Reader(golden("run.json"), record),
        "claim.json": Reader(golden("claim.json"), claim),
        "end": Reader(golden("end-*.json"), end),
        "history.json": Reader(golden("history.json"), carried_on),
        "receipt": Reader([json.dumps({"schema": 1, "evidence": written, "at": 1.5, "by": {}}).encode()], receipt),
        "stop request": Reader([b'{"by": "launch"}', b"{}"], request),
        "names": Reader([path.name.encode() for path in GOLDEN.rglob("*")], names),
        "channel": Reader(spoken(), channel),
        "parcel": Reader(headers(), parcel),
        "machine's status": Reader(reports(), report),
        "acknowledged": Reader(acknowledgements(), acknowledged),
        "job.json": Reader(jobs(), in_scratch("job.json", lambda file: consignment.job(file.parent))),
        "fleet journal": Reader(
            [(TOLD / "fleet-journal.jsonl").read_bytes()], in_scratch("fleet", controller.folded), NAMED
        ),
        "live status": Reader(golden("status-*.json", TOLD), in_scratch("status.json", notes.live_status)),
    }
