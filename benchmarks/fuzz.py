"""Mutates golden records for each reader: a value, a named error or damage may come of it, and never anything else.

``python -m benchmarks.fuzz --mutations 100000``; a seed makes it the same again. The law is also one of time and memory: no
input may take a second, or 100 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fuzzed import readers

ODD = [
    None, True, 0, -1, 1 << 63, 10**30, 1.5, "", "x", "..", "../x", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "x" * 300, [], {}, [1], {"a": 1},
    [[]] * 3, "sha256:00", "e00000001-a", "9" * 400,
]  # fmt: skip
BYTES = (b"", b"[" * 3000, b"1e999", b"NaN", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a":' * 2000)
HANG_S = 1.0
ALLOCATION_BYTES_MAX = 100_000_000
LINES_CHANGED_AT = (
    200_000  # a record longer than this is changed in its bytes alone: reading it as JSON would be all the time
)


@dataclass
class Came:
    """Result of one reader's mutations. ``bad`` holds the first inputs that raised an error without a name."""

    ends: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    most_bytes: int = 0
    bad: list[tuple[bytes, BaseException]] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """True if no error was uncaught and every input stayed within the bounds of time and memory."""
        return not self.bad and self.longest_s <= HANG_S and self.most_bytes <= ALLOCATION_BYTES_MAX


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Return a body with some changes: of JSON values where it is JSON, else of bytes."""
    if chance.random() < 0.75 and len(body) < LINES_CHANGED_AT:
        lines = body.split(b"\n") if body.count(b"\n{") > 0 and body.startswith(b'{"') else [body]
        at = chance.randrange(len(lines))
        head, brace, rest = lines[at].partition(b"{") if lines[at][:1] in {b"#", b"%"} else (b"", b"", lines[at])
        try:
            told = json.loads(brace + rest)
        except ValueError:
            told = None
        if told is not None:
            for _ in range(chance.randint(1, 3)):
                told = _changed(told, chance)
            lines[at] = head + json.dumps(told, separators=(",", ":")).encode()
            return b"\n".join(lines)
    out = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) + 1)
        many = BYTES if chance.random() < 0.3 else (b"",)
        out[at : at + chance.choice((0, 1, 1, 9))] = chance.choice((*many, bytes([chance.randrange(256)])))
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


def fuzz(name: str, mutations: int, seed: int) -> Came:
    """Return what came of so many mutations for one reader."""
    reader = readers()[name]
    chance, came = random.Random(f"{name}-{seed}"), Came()
    reader.read(reader.bodies[0])  # modules that it loads are no allocation of an input
    for _ in range(mutations):
        body = mutated(chance.choice(reader.bodies), chance)
        began_s, before = time.perf_counter(), _peak_bytes()
        try:
            reader.read(body)
            came.ends["read"] += 1
        except reader.named as error:
            came.ends[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            came.ends["UNCAUGHT"] += 1
            came.bad.append((body, error))
        came.longest_s = max(came.longest_s, time.perf_counter() - began_s)
        came.most_bytes = max(came.most_bytes, _peak_bytes() - before)
    return came


def _peak_bytes() -> int:
    """Return the most memory that this process ever had: it grows by what an input takes beyond all before it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _limit_memory() -> None:
    """Have an allocation fail that is far beyond what this process has: one that is never touched shows in no peak."""
    used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024  # noqa: SIM115, PTH123
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * ALLOCATION_BYTES_MAX, resource.RLIM_INFINITY))


def main() -> int:
    """Fuzz every reader and print a row of a table for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=[*readers()])
    options = parser.parse_args()
    failed = False
    print("| reader | mutations | read | named | uncaught | longest | most memory |\n|---|---|---|---|---|---|---|")
    for number, name in enumerate(options.reader or readers()):
        readers()[name].read(readers()[name].bodies[0])
        if number == 0 and sys.platform == "linux":
            _limit_memory()
        came = fuzz(name, options.mutations, options.seed)
        uncaught = came.ends.pop("UNCAUGHT", 0)
        read = came.ends.pop("read", 0)
        row = f"{options.mutations:,} | {read:,} | {came.ends.total():,} | {uncaught:,}"
        print(f"| {name} | {row} | {1000 * came.longest_s:.0f} ms | {came.most_bytes / 1e6:.0f} MB |", flush=True)
        for body, error in came.bad[:3]:
            print(f"    {type(error).__name__}: {str(error)[:150]} of {body[:300]!r}")
        failed |= not came.holds
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
