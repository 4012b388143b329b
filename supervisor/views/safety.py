"""What is safe, what is not confirmed yet and what to do about it: the words that every view uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.core import program
from supervisor.core.spoken import at, duration
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.core.instant import Instant
    from supervisor.core.status import RunStatus

QUIET_S = 60.0  # so long an upload may take without a word
_KNOWN = ("has not uploaded it", "has not fetched it", "asked for again")
_COMPUTER = "your computer"  # it fetches; all else is uploaded to
QUOTA_PAGE = "drive.google.com/settings/storage"


@dataclass(frozen=True, slots=True)
class Safety:
    """What is known of a run's checkpoints; unknown is None.

    ``pending`` is the step whose proof is waited for: ``written`` to the store, or only on the disk of ``machine``;
    ``newest`` the newest of which that disk has a checkpoint that is not proved.
    ``waits_s``: since when something is not proved. ``provable``: the store can give a proof; ``answers``: it does
    anything at all; ``why``: what it said last. ``live``: a session looks after it. ``unit``: what the numbers count.
    ``adopted``: the step that a dead session left on this disk, that is proved whole there, and that this one went on from.
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


def of_status(status: RunStatus, now: Instant, *, live: bool = True) -> Safety:
    """Read it from the status of the session that is here."""
    pending, written, newest = _pending(status.durable, status.submitted, status.staged)
    return Safety(
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


def of_plain(plain: Mapping[str, Any], *, live: bool = True) -> Safety:
    """Read it from what ``status --json`` prints."""
    kept = plain["checkpoints"]
    pending, written, newest = _pending(kept["durable"], kept["submitted"], kept["staged"])
    return Safety(
        durable=kept["durable"],
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


def safe(seen: Safety) -> str:
    """Say what is safe. Only DURABLE is ever called so."""
    if seen.durable is None and seen.adopted is not None:
        return f"{seen.unit} {seen.adopted:,} is verified on the disk of {seen.machine}, and not yet in the store"
    if seen.durable is None:
        return "nothing safe yet"
    ago = "" if seen.durable_age_s is None else f", {duration(seen.durable_age_s)} ago"
    return f"{_safe_in(seen)}: {seen.unit} {seen.durable:,}{ago}"


def waiting(seen: Safety) -> str:
    """Say what is not confirmed, and for how long; "" while there is nothing to worry about."""
    if not seen.answers or (seen.written and not seen.provable):
        return lying(seen) or f"{_store(seen)} does not answer"
    if seen.pending is None or seen.waits_s is None or seen.waits_s <= QUIET_S:
        return ""
    return f"not safe for {duration(seen.waits_s)}: {lying(seen)}"


def lying(seen: Safety) -> str:
    """Say where the newest step lies that is not proved; "" if all is."""
    if seen.pending is None:
        return ""
    if not seen.answers:
        return f"{_store(seen)} does not answer; {seen.unit} {seen.newest:,} is kept on the disk of {seen.machine}"
    return f"{seen.unit} {seen.pending:,} is {_unproved(seen)}"


def because(seen: Safety) -> str:
    """Return in brackets what the store said last, where that says more than the words before it."""
    told = not seen.why or not seen.answers or not seen.live or any(known in seen.why for known in _KNOWN)
    return "" if told else f" ({seen.why})"


def what_to_do(seen: Safety, run: str, store: str = "") -> str:
    """Return what a person can do about what is pending. ``store`` is the option that names the run's store, or ""."""
    verify = f"`{program.command_of_run('checkpoints', run, 'verify', option=store)}`"
    lives = f"nothing is lost while {seen.machine} lives: keep it running"
    if not seen.answers:
        again = "it is sent when it answers again" if seen.live else f"when it is back `{_resume(run, store)}` sends it"
        return f"see that {seen.place or 'the store'} is {'mounted' if seen.place else 'there'}; what is staged waits on the local disk, and {again}"
    if not seen.written:
        return lives if seen.live else f"start again on {seen.machine}, and it is sent: {_resume(run, store)}"
    if not seen.provable:
        return f"{verify} from another machine makes it safe"
    if not seen.place:
        return lives if seen.live else f"{verify} reads it back and records that"
    asks = "" if seen.live else f"; {verify} asks whether it is safe"
    return f"{_client_hint(seen)}{lives}{asks}"


def fitting(seen: Safety, width: int | None) -> str:
    """Return what is safe and what is not in at most ``width`` columns, if that can be: the longest words that fit."""
    whole, waits = safe(seen), waiting(seen)
    if not waits:
        return whole
    short = _short(seen)
    choices = [f"{whole} · {waits}", f"{_without_age(seen)} · {waits}", f"{_without_age(seen)} · {short}", short, whole]
    return choices[0] if width is None else next((each for each in choices if len(each) <= width), short)


def _pending(durable: int | None, submitted: int | None, staged: int | None) -> tuple[int | None, bool, int | None]:
    proved = -1 if durable is None else durable
    waiting = [step for step in (submitted, staged) if step is not None and step > proved]
    written = submitted in waiting
    return (submitted if written else staged if waiting else None), written, max(waiting, default=None)


def _unproved(seen: Safety) -> str:
    if not seen.written:
        return f"only on the disk of {seen.machine}"
    if not seen.provable:
        return f"written to {seen.place or 'the mounted drive'}, which cannot tell whether it is safe"
    if not seen.live and not seen.place:
        return "written, and no record says that it is safe on the disk"
    if not seen.live:
        return f"written, and it is not known whether {_store(seen)} {_took(seen)} it"
    return f"written but {seen.place} has not {_took(seen)} it" if seen.place else "written but not safe yet"


def _short(seen: Safety) -> str:
    if not seen.answers:
        return f"{_store(seen)} does not answer"
    if not seen.provable and seen.written:
        return f"{seen.unit} {seen.pending:,} written, not known to be safe"
    return f"{seen.unit} {seen.pending:,} not safe for {duration(seen.waits_s or 0.0)}"


def _without_age(seen: Safety) -> str:
    return safe(seen) if seen.durable is None else f"{_safe_in(seen)}: {seen.unit} {seen.durable:,}"


def _safe_in(seen: Safety) -> str:
    return f"safe {at(seen.place)}" if seen.place else "safe"


def _store(seen: Safety) -> str:
    return seen.place or "the store"


def _took(seen: Safety) -> str:
    return "fetched" if seen.place == _COMPUTER else "uploaded"


def _client_hint(seen: Safety) -> str:
    if seen.place == _COMPUTER:
        return "is your computer awake and online, and `launch` running there? "
    name = f"{seen.place} {seen.proof}".lower()
    if "rclone" in name:
        return "is it full, or is the upload slow? see the log of rclone and `rclone about REMOTE:`; "
    if seen.place == "Drive" or "drivefs" in name:
        return f"is Drive full? {QUOTA_PAGE}; is the upload slow? "
    return "is it full, or slow? "


def _resume(run: str, store: str) -> str:
    return program.command_of_run("resume", run, option=store)
