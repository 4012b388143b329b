"""Mutates golden records for each reader: a value, a named error or damage may come of it, and never anything else.

``python -m benchmarks.fuzz --mutations 100000``; a seed makes it the same again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core import carried, content, fields, rollback
from supervisor.core import checkpoint as cp
from supervisor.core import status as core_status
from supervisor.core.claim import Rank, rank_of
from supervisor.core.content import ContentError
from supervisor.core.ports import Missing, StoreError
from supervisor.engine import claims, history, journal, receipts, runs
from supervisor.engine.place import RunPlace

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "store"
RUN, RANK = RunPlace("run"), Rank(3, "b4dc8281")
ODD = [
    None, True, 0, -1, 1 << 63, 10**30, 1.5, "", "x", "..", "../x", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "x" * 300, [], {}, [1], {"a": 1},
    [[]] * 3, "sha256:00", "e00000001-a", "9" * 400,
]  # fmt: skip
NAMED = (StoreError, ContentError, cp.ManifestError, runs.DamagedRecord)
HANG_S = 1.0


class OneRecord:
    """A store that has one body under every name."""

    def __init__(self, name: str, body: bytes) -> None:
        self.name, self.body = name, body

    def list(self, folder: str) -> list[Any]:
        from supervisor.core.ports import Entry

        inside = {RUN.name: str(RANK), f"{RUN.name}/{RANK}": self.name}.get(folder)
        return (
            []
            if inside is None
            else [Entry(inside, folder == RUN.name, None if folder == RUN.name else len(self.body))]
        )

    def read(self, path: str) -> bytes:
        if path.endswith(f"/{self.name}"):
            return self.body
        raise Missing(path)


def one_record(name: str, body: bytes) -> Any:
    """Return such a store; readers call nothing else of a store."""
    return OneRecord(name, body)


def readers() -> dict[str, tuple[list[bytes], Callable[[bytes], Any]]]:
    """Return golden bodies for each reader, and the reader."""

    def golden(pattern: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted(GOLDEN.rglob(pattern))]

    def manifest(body: bytes) -> Any:
        return cp.manifest_body(cp.parse_manifest(cp.manifest_name(1, body), body))

    def sealed(body: bytes) -> Any:
        above = body.rpartition(b',\n "digest"')[0]
        seal = f',\n "digest": "sha256:{hashlib.sha256(above).hexdigest()}"\n}}'.encode()
        return content.parse(above + seal)

    def pieces(body: bytes) -> Any:
        seen = journal.replay(*journal.parse_piece(body))
        return core_status.to_json(seen, None)

    def record(body: bytes) -> Any:
        return runs.read_whole(one_record("run.json", body), RunPlace("run"))

    def claim(body: bytes) -> Any:
        read = claims.read_claim(one_record("claim.json", body), RUN, RANK)
        return claims.local_folder(read), runs._left_by_sessions(one_record("claim.json", body), RUN)  # noqa: SLF001

    def carried_on(body: bytes) -> Any:
        return history._carried(one_record("history.json", body), RUN, RANK)  # noqa: SLF001

    def names(body: bytes) -> Any:
        name = body.decode("utf-8", "surrogateescape")
        return (
            rank_of(name),
            rollback.parse(RANK, name),
            receipts.NAME.fullmatch(name),
            fields.is_plain_name(name),
            runs.NAME.fullmatch(name),
        )

    every_name = [path.name.encode() for path in GOLDEN.rglob("*")]
    return {
        "manifest": (golden("manifest-*.json"), manifest),
        "checkpoint.json": (golden("checkpoint.json"), sealed),
        "files.json": (golden("files.json"), carried.parse),
        "journal": (golden("journal-*.jsonl"), pieces),
        "run.json": (golden("run.json"), record),
        "claim.json": (golden("claim.json"), claim),
        "end": (golden("end-*.json"), lambda body: claims.read_end(one_record("end-failed.json", body), RUN, RANK)),
        "history.json": (golden("history.json"), carried_on),
        "names": (every_name, names),
    }


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Return a body with some changes: of JSON values where it is JSON, else of bytes."""
    if chance.random() < 0.75:
        lines = body.split(b"\n") if body.count(b"\n{") > 0 and body.startswith(b'{"') else [body]
        at = chance.randrange(len(lines))
        try:
            told = json.loads(lines[at])
        except ValueError:
            told = None
        if told is not None:
            for _ in range(chance.randint(1, 3)):
                told = _changed(told, chance)
            lines[at] = json.dumps(told, separators=(",", ":")).encode()
            return b"\n".join(lines)
    out = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        out[at : at + chance.choice((0, 1, 1, 9))] = chance.choice(
            (b"", b"[" * 3000, b"1e999", b"NaN", b"\xff", bytes([chance.randrange(256)]))
        )
    return bytes(out)


def _changed(told: Any, chance: random.Random) -> Any:
    if isinstance(told, dict) and told and chance.random() < 0.9:
        key = chance.choice(list(told))
        if chance.random() < 0.1:
            return {name: value for name, value in told.items() if name != key}
        return {**told, key: _changed(told[key], chance)}
    if isinstance(told, list) and told and chance.random() < 0.9:
        at = chance.randrange(len(told))
        return [*told[:at], _changed(told[at], chance), *told[at + 1 :]]
    return chance.choice(ODD)


def fuzz(reader: str, mutations: int, seed: int) -> tuple[Counter[str], float, list[tuple[bytes, BaseException]]]:
    """Return what came of so many mutations, the longest in seconds, and the uncaught exceptions with their input."""
    bodies, read = readers()[reader]
    chance, came, longest_s, bad = (
        random.Random(f"{reader}-{seed}"),
        Counter[str](),
        0.0,
        list[tuple[bytes, BaseException]](),
    )
    for _ in range(mutations):
        body = mutated(chance.choice(bodies), chance)
        began_s = time.perf_counter()
        try:
            read(body)
            came["read"] += 1
        except NAMED as error:
            came[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            came["UNCAUGHT"] += 1
            bad.append((body, error))
        longest_s = max(longest_s, time.perf_counter() - began_s)
    return came, longest_s, bad


def main() -> int:
    """Fuzz every reader and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append")
    options = parser.parse_args()
    failed = False
    for reader in options.reader or readers():
        came, longest_s, bad = fuzz(reader, options.mutations, options.seed)
        print(f"{reader:16} {dict(came)} longest {1000 * longest_s:.0f} ms", flush=True)
        for body, error in bad[:3]:
            print(f"    {type(error).__name__}: {str(error)[:150]} of {body[:200]!r}")
        failed |= bool(bad) or longest_s > HANG_S
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
