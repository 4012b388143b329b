"""Worker process that performs a supervisor's requests on a drive. A drive that hangs blocks only this process.

``python -m supervisor.stores.mounted.worker`` reads requests from standard input and writes answers to standard output.
It exits at the end of its input.
"""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.ports import StoreError
from supervisor.stores.mounted import ipc
from supervisor.stores.mounted.backend import DriveStore
from supervisor.stores.mounted.guard import MountGuard
from supervisor.stores.mounted.mounts import Mount

if TYPE_CHECKING:
    from supervisor.stores.mounted.ipc import Header

VERBS = frozenset({"list", "read", "create", "push", "pull", "delete", "sweep", "evidence", "free_bytes"})


def serve(requests: int, answers: int) -> None:
    """Answer requests until the input ends."""
    try:
        begin, _ = ipc.receive(requests)
        guard = MountGuard(begin["root"], Mount(*begin["mount"]), begin["table"])
        store = DriveStore(guard, lambda: ipc.send(answers, {"tick": True}))
        while True:
            header, body = ipc.receive(requests)
            ipc.send(answers, *_answer(store, header, body))
    except ipc.PeerClosed:
        return  # the supervisor has exited, so nothing is to be reported


def _answer(store: DriveStore, header: Header, body: bytes) -> tuple[Header, bytes]:
    """Perform one request. The record digests go back with the answer, for the next worker."""
    store.record_digests.update(header["marks"])
    if header["confirmed"]:
        store.confirmed.add(header["arguments"][0])
    try:
        value = _do(store, header["verb"], header["arguments"], body)
        answer: Header = {"value": None if isinstance(value, bytes) else value}
    except ipc.PeerClosed:
        raise
    except (StoreError, UserError) as error:
        value, answer = b"", {"error": ipc.encode_error(error)}
    except Exception:  # noqa: BLE001, because the supervisor raises it again
        value, answer = b"", {"error": {"name": "defect", "words": traceback.format_exc()}}
    return {**answer, "marks": store.record_digests, "left_out": sorted(store.left_out)}, value if isinstance(
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
    """Move the two pipes away from code that prints, leave the user's folder, and serve."""
    requests, answers, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.chdir("/")
    serve(requests, answers)


if __name__ == "__main__":
    main()
