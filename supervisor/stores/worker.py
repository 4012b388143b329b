"""A process that does what a supervisor asks on a drive, so that a drive that hangs holds up a process that can be killed.

``python -m supervisor.stores.worker``: requests on standard input, answers on standard output; it ends when its input does.
"""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.stores import wire
from supervisor.stores.drive import DriveStore
from supervisor.stores.held import HeldMount
from supervisor.stores.mounts import Mount

if TYPE_CHECKING:
    from supervisor.stores.wire import Header

VERBS = frozenset({"list", "read", "create", "push", "pull", "delete", "sweep", "evidence", "free_bytes"})


def serve(requests: int, answers: int) -> None:
    """Answer requests until there are no more."""
    try:
        begin, _ = wire.receive(requests)
        held = HeldMount(begin["root"], Mount(*begin["mount"]), begin["table"])
        store = DriveStore(held, lambda: wire.send(answers, {"tick": True}))
        while True:
            header, body = wire.receive(requests)
            wire.send(answers, *_answer(store, header, body))
    except wire.Ended:
        return  # who asked is gone, and nobody wants to know


def _answer(store: DriveStore, header: Header, body: bytes) -> tuple[Header, bytes]:
    """Do one request. What it learned about runs goes back with the answer, for the worker after this one."""
    store.marks.update(header["marks"])
    if header["confirmed"]:
        store.confirmed.add(header["arguments"][0])
    try:
        value = _do(store, header["verb"], header["arguments"], body)
        answer: Header = {"value": None if isinstance(value, bytes) else value}
    except wire.Ended:
        raise
    except (StoreError, UserError) as error:
        value, answer = b"", {"error": wire.packed(error)}
    except Exception:  # noqa: BLE001, because the one who asked raises it again
        value, answer = b"", {"error": {"name": "defect", "words": traceback.format_exc()}}
    return {**answer, "marks": store.marks, "left_out": sorted(store.left_out)}, value if isinstance(
        value, bytes
    ) else b""


def _do(store: DriveStore, verb: str, arguments: list[Any], body: bytes) -> Any:
    assert verb in VERBS
    given = [*arguments, body] if verb == "create" else arguments
    result = getattr(store, verb)(*given)
    if verb == "list":
        return [[each.name, each.folder, each.bytes] for each in result]
    if verb in {"push", "pull"}:
        return [result.bytes, result.digest]
    return result


def main() -> None:
    """Keep the two pipes away from anything that prints, hold no folder of the user's, and serve."""
    requests, answers, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.chdir("/")
    serve(requests, answers)


if __name__ == "__main__":
    main()
