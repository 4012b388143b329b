"""Text on safe and unconfirmed checkpoints and on remedies, shared by all views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import shell_commands
from supervisor.core.frozen import dataclass
from supervisor.core.humanize import at, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.clock import Instant
    from supervisor.core.session.status import RunStatus

QUIET_S = 60.0  # time without confirmation that is normal for an upload
_KNOWN = ("has not uploaded it", "has not fetched it", "asked for again")
_COMPUTER = "your computer"  # it fetches the files; other places receive uploads
QUOTA_PAGE = "drive.google.com/settings/storage"


@dataclass(frozen=True, slots=True)
class Durability:
    """Known durability of a run's checkpoints; unknown is None.

    - ``pending``: the step that waits for confirmation
    - ``written``: it is in the store, else only on the disk of ``machine``
    - ``newest``: the newest unconfirmed checkpoint on that disk
    - ``waits_s``: time since when a checkpoint is unconfirmed
    - ``provable``: the store can confirm uploads
    - ``answers``: the store answers at all; ``why``: its last answer
    - ``live``: a session is running
    - ``unit``: meaning of the numbers
    - ``adopted``: the verified step that a dead session left on this disk and that this session resumed
    """

    durable: int | None = None
    durable_age_s: float | None = None
    pending: int | None = None
    written: bool = False
    newest: int | None = None
    waits_s: float | None = None
    place: str = ""
    proof: str = ""
    provable: bool = True
    answers: bool = True
    why: str = ""
    live: bool = True
    machine: str = "this machine"
    unit: str = "step"
    adopted: int | None = None


def of_status(status: RunStatus, now: Instant, *, live: bool = True) -> Durability:
    """Return it from the status of the local session."""
    pending, written, newest = _pending(status.durable, status.submitted, status.staged)
    return Durability(
        durable=status.durable,
        durable_age_s=None if status.durable_at is None else max(0.0, now.wall_s - status.durable_at.wall_s),
        pending=pending,
        written=written,
        newest=newest,
        waits_s=None if status.unproved_since is None else max(0.0, now.mono_s - status.unproved_since.mono_s),
        place=status.place,
        proof=status.evidence or "",
        provable=status.provable,
        answers=not status.dark,
        why=status.unconfirmed,
        live=live,
        unit=status.unit,
        adopted=status.adopted,
    )


def of_plain(plain: Mapping[str, Any], *, live: bool = True) -> Durability:
    """Return it from the output of ``status --json``."""
    checkpoints = plain["checkpoints"]
    pending, written, newest = _pending(checkpoints["durable"], checkpoints["submitted"], checkpoints["staged"])
    return Durability(
        durable=checkpoints["durable"],
        durable_age_s=plain["durable_age_s"],
        pending=pending,
        written=written,
        newest=newest,
        waits_s=plain.get("unconfirmed_s"),
        place=plain.get("place") or "",
        proof=plain.get("evidence") or "",
        provable=plain.get("provable") is not False,
        answers=plain.get("store_answers") is not False,
        why=plain.get("unconfirmed") or "",
        live=live,
        machine="its machine",
        unit=plain.get("unit") or "step",
        adopted=plain.get("adopted"),
    )


def safe(durability: Durability) -> str:
    """Return the text on the safe step. Only a DURABLE checkpoint is called safe."""
    if durability.durable is None and durability.adopted is not None:
        return f"{durability.unit} {durability.adopted:,} is verified on the disk of {durability.machine}, and not yet in the store"
    if durability.durable is None:
        return "nothing safe yet"
    ago = "" if durability.durable_age_s is None else f", {duration(durability.durable_age_s)} ago"
    return f"{_safe_in(durability)}: {durability.unit} {durability.durable:,}{ago}"


def unconfirmed_text(durability: Durability) -> str:
    """Return the text on an unconfirmed checkpoint and its age; "" if there is no reason to worry."""
    if not durability.answers or (durability.written and not durability.provable):
        return unconfirmed_place(durability) or f"{_store(durability)} does not answer"
    if durability.pending is None or durability.waits_s is None or durability.waits_s <= QUIET_S:
        return ""
    return f"not safe for {duration(durability.waits_s)}: {unconfirmed_place(durability)}"


def unconfirmed_place(durability: Durability) -> str:
    """Return the place of the newest unconfirmed step; "" if all are confirmed."""
    if durability.pending is None:
        return ""
    if not durability.answers:
        return f"{_store(durability)} does not answer; {durability.unit} {durability.newest:,} is kept on the disk of {durability.machine}"
    return f"{durability.unit} {durability.pending:,} is {_unproved(durability)}"


def store_reason(durability: Durability) -> str:
    """Return the store's last answer in brackets if it adds something."""
    redundant = (
        not durability.why
        or not durability.answers
        or not durability.live
        or any(known in durability.why for known in _KNOWN)
    )
    return "" if redundant else f" ({durability.why})"


def remedy(durability: Durability, run: str, store: str = "") -> str:
    """Return the hint for a pending checkpoint. ``store`` is the option that names the run's store, or ""."""
    verify = f"`{shell_commands.command_of_run('checkpoints', run, 'verify', option=store)}`"
    keep_running = f"nothing is lost while {durability.machine} lives: keep it running"
    if not durability.answers:
        again = (
            "it is sent when it answers again"
            if durability.live
            else f"when it is back `{_resume(run, store)}` sends it"
        )
        return f"see that {durability.place or 'the store'} is {'mounted' if durability.place else 'there'}; what is staged waits on the local disk, and {again}"
    if not durability.written:
        return (
            keep_running
            if durability.live
            else f"start again on {durability.machine}, and it is sent: {_resume(run, store)}"
        )
    if not durability.provable:
        return f"{verify} from another machine makes it safe"
    if not durability.place:
        return keep_running if durability.live else f"{verify} reads it back and records that"
    asks = "" if durability.live else f"; {verify} asks whether it is safe"
    return f"{_client_hint(durability)}{keep_running}{asks}"


def fit(durability: Durability, width: int | None) -> str:
    """Return the longest text on safe and unconfirmed steps that fits into ``width`` columns."""
    whole, waits = safe(durability), unconfirmed_text(durability)
    if not waits:
        return whole
    short = _short(durability)
    choices = [
        f"{whole} · {waits}",
        f"{_without_age(durability)} · {waits}",
        f"{_without_age(durability)} · {short}",
        short,
        whole,
    ]
    return choices[0] if width is None else next((each for each in choices if len(each) <= width), short)


def _pending(durable: int | None, submitted: int | None, staged: int | None) -> tuple[int | None, bool, int | None]:
    proved = -1 if durable is None else durable
    unconfirmed_text = [step for step in (submitted, staged) if step is not None and step > proved]
    written = submitted in unconfirmed_text
    return (
        (submitted if written else staged if unconfirmed_text else None),
        written,
        max(unconfirmed_text, default=None),
    )


def _unproved(durability: Durability) -> str:
    if not durability.written:
        return f"only on the disk of {durability.machine}"
    if not durability.provable:
        return f"written to {durability.place or 'the mounted drive'}, which cannot tell whether it is safe"
    if not durability.live and not durability.place:
        return "written, and no record says that it is safe on the disk"
    if not durability.live:
        return f"written, and it is not known whether {_store(durability)} {_accepted(durability)} it"
    return (
        f"written but {durability.place} has not {_accepted(durability)} it"
        if durability.place
        else "written but not safe yet"
    )


def _short(durability: Durability) -> str:
    if not durability.answers:
        return f"{_store(durability)} does not answer"
    if not durability.provable and durability.written:
        return f"{durability.unit} {durability.pending:,} written, not known to be safe"
    return f"{durability.unit} {durability.pending:,} not safe for {duration(durability.waits_s or 0.0)}"


def _without_age(durability: Durability) -> str:
    return (
        safe(durability)
        if durability.durable is None
        else f"{_safe_in(durability)}: {durability.unit} {durability.durable:,}"
    )


def _safe_in(durability: Durability) -> str:
    return f"safe {at(durability.place)}" if durability.place else "safe"


def _store(durability: Durability) -> str:
    return durability.place or "the store"


def _accepted(durability: Durability) -> str:
    return "fetched" if durability.place == _COMPUTER else "uploaded"


def _client_hint(durability: Durability) -> str:
    if durability.place == _COMPUTER:
        return "is your computer awake and online, and `launch` running there? "
    name = f"{durability.place} {durability.proof}".lower()
    if "rclone" in name:
        return "is it full, or is the upload slow? see the log of rclone and `rclone about REMOTE:`; "
    if durability.place == "Drive" or "drivefs" in name:
        return f"is Drive full? {QUOTA_PAGE}; is the upload slow? "
    return "is it full, or slow? "


def _resume(run: str, store: str) -> str:
    return shell_commands.command_of_run("resume", run, option=store)
