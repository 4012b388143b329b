"""The signature of an environment record: it shows that a holder of the user's key wrote it, and for which run.

A store's own digests stand against damage. Who may write into the store can compute them for any content, and has no key.
"""

from __future__ import annotations

import hashlib
import hmac
import re

KEY = re.compile(r"(run-)?([0-9a-f]{64})")
_LINE = re.compile(rb'# signature: "hmac-sha256:([0-9a-f]{64})"\n\Z')
_ABOUT_RUN, _ABOUT_RECORD = b"training-supervisor, key of the run ", b"training-supervisor, environment record\n"


def key_of_run(key: str, run: str) -> str:
    """Return the key for the records of one run, "run-" and 64 hexadecimal digits; one of a run is returned as it is.

    A machine that serves one run gets this one alone: with it nothing can be signed for another run. ``key``: see `KEY`.
    """
    if key.startswith("run-"):
        return key
    return f"run-{hmac.new(bytes.fromhex(key), _ABOUT_RUN + run.encode(), hashlib.sha256).hexdigest()}"


def signed(record: bytes, key: str) -> bytes:
    """Return the record with its signature as a last comment. ``key``: of the run."""
    return record + f'# signature: "hmac-sha256:{_signature(record, key)}"\n'.encode()


def without_signature(content: bytes) -> bytes:
    """Return the record as it was before it was signed."""
    return _LINE.sub(b"", content)


def is_signed(content: bytes, key: str) -> bool:
    """Say whether the record has the signature of this key of a run."""
    found = _LINE.search(content)
    return found is not None and hmac.compare_digest(found[1].decode(), _signature(content[: found.start()], key))


def _signature(record: bytes, key: str) -> str:
    return hmac.new(bytes.fromhex(key.removeprefix("run-")), _ABOUT_RECORD + record, hashlib.sha256).hexdigest()
