"""Files that this computer accepts from a machine: those of its sessions, by name and size.

Receipts, pins, stop requests and wheels are made on this computer or by people. Other programs on the machine could
send forged ones.
"""

from __future__ import annotations

import re

from supervisor.core.checkpoint import manifest as cp
from supervisor.core.checkpoint.session_id import SessionId, parse_session_id
from supervisor.core.policy import nonfinite, rollback
from supervisor.core.wire import fields
from supervisor.engine import journal
from supervisor.engine.run_catalog import claims
from supervisor.engine.run_catalog.history import CARRIED
from supervisor.engine.trainer_process import log_capture

SMALL_BYTES_MAX = 1 << 20
RECORDS = frozenset({claims.CLAIM, CARRIED, rollback.ANEW_NAME, "environment.txt"})
HERE = re.compile(r"here-[0-9]{1,9}-[0-9a-f]{1,16}\.json")
RUN_RECORD = re.compile(r"run( \([0-9]{1,9}\))?\.json")
LOCK = re.compile(r"environment/[0-9A-Za-z._+-]{1,200}\.txt")


def rejection_reason(path: str, total: int) -> str:
    """Return why a machine may not send a file of this path; "" if it may.

    Args:
        path: the path relative to the run's folder.
        total: the length reported by the machine.
    """
    session, _, inside = path.partition("/")
    rank = parse_session_id(session)
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
    if cp.LOG_NAME.fullmatch(name) or journal.PIECE.fullmatch(name) or log_capture.PIECE.fullmatch(name):
        return "" if total <= fields.LISTING_BYTES_MAX else "it is longer than a piece of a log can be"
    if not _is_record(rank, name):
        return "it is no record of a session"
    return "" if total <= SMALL_BYTES_MAX else "it is longer than a record can be"


def _is_record(rank: SessionId, name: str) -> bool:
    matches = name in RECORDS or claims.END.fullmatch(name) or HERE.fullmatch(name)
    return bool(matches) or rollback.parse(rank, name) is not None or nonfinite.parse(rank, name) is not None
