"""What home takes from a machine: files of its sessions, by name and size. All else a machine has no business to send.

Receipts, pins, requests to stop and wheels are made at home or by people; other packages that run on the machine could send any.
"""

from __future__ import annotations

import re

from supervisor.core import checkpoint as cp
from supervisor.core import fields, nonfinite, rollback
from supervisor.core.claim import Rank, rank_of
from supervisor.engine import claims, journal, output
from supervisor.engine.history import CARRIED

SMALL_BYTES_MAX = 1 << 20
RECORDS = frozenset({claims.CLAIM, CARRIED, rollback.ANEW_NAME, "environment.txt"})
HERE = re.compile(r"here-[0-9]{1,9}-[0-9a-f]{1,16}\.json")
RUN_RECORD = re.compile(r"run( \([0-9]{1,9}\))?\.json")
LOCK = re.compile(r"environment/[0-9A-Za-z._+-]{1,200}\.txt")


def refused(path: str, total: int) -> str:
    """Return why a machine may not send a file of this path, relative to the run's folder; "" where it may.

    ``total``: the length that the machine says it has.
    """
    session, _, inside = path.partition("/")
    rank = rank_of(session)
    if rank is None or not inside:
        allowed = RUN_RECORD.fullmatch(path) or LOCK.fullmatch(path)
        return "" if allowed and total <= SMALL_BYTES_MAX else "no machine sends such a file"
    if str(rank) != session:
        return "it is in the folder of no session"
    folder, _, name = inside.rpartition("/")
    if folder:
        step = cp.STEP_FOLDER.fullmatch(folder)
        fits = step is not None and fields.is_plain_name(name) and not name.startswith(".")
        return "" if fits else "it is no file of a checkpoint"
    if cp.LOG_NAME.fullmatch(name) or journal.PIECE.fullmatch(name) or output.PIECE.fullmatch(name):
        return "" if total <= fields.LISTING_BYTES_MAX else "it is longer than a piece of a log can be"
    if not _is_record(rank, name):
        return "it is no record of a session"
    return "" if total <= SMALL_BYTES_MAX else "it is longer than a record can be"


def _is_record(rank: Rank, name: str) -> bool:
    matches = name in RECORDS or claims.END.fullmatch(name) or HERE.fullmatch(name)
    return bool(matches) or rollback.parse(rank, name) is not None or nonfinite.parse(rank, name) is not None
