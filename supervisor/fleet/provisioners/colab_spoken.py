"""What the official Colab command line says, understood: its listing, its units, and what went wrong by its words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from supervisor.core.provisioning import Balance, Machine, MachineError
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from supervisor.core.provisioning import Wanted

GPUS, TPUS = ("T4", "L4", "G4", "H100", "A100"), ("v5e1", "v6e1")
EMPTY = "[colab] No active sessions found on server."
LINE = re.compile(r"\[(?P<name>[^]]*)\] (?P<endpoint>\S+) \| Hardware: (?P<hardware>\S+)(?: \| .*)?")
CHATTER = re.compile(r"\[colab\] Pruned \d+ stale local session\(s\)\.")
BALANCE = re.compile(r"^Current balance: (-?[\d.]+) compute units$", re.MULTILINE)
RATE = re.compile(r"^Usage rate: (-?[\d.]+)/hr$", re.MULTILINE)
OUTCOME = re.compile(r"['\"]outcome['\"]: *['\"]?(\w+)")
LOGIN = ("To authorize colab-cli", "RefreshError", "invalid_grant", "authorization code")
LOGIN_HINT = "run `colab usage` once in a terminal, open the address it prints, paste the code; then start this again"
UNITS_HINT = "see `colab usage`; `colab pay` shows where units are bought"
LATER_HINT = "other hardware may be free (--gpu); it is asked for again later"
ADDRESS = re.compile(r",? (?:for|with) url:? \S+|https?://\S+")
CAUSE = re.compile(r"(?:\[Errno -?\d+\] |\w*(?:Error|Timeout)\(['\"])([^'\"()]+)")  # innermost, of a whole chain
BEFORE_REASON = re.compile(r"^(?:\[colab\] |Warning: |[\w.]*\.(?:\w+): )+")
NETWORK = re.compile(
    r"Max retries exceeded|ConnectionError|Connection (?:refused|reset)|resolve|unreachable|ProxyError|timed out",
    re.IGNORECASE,
)
NETWORK_HINT = "is this computer on the network? it is tried again by itself"
VERSION_HINT = (
    "another version of `colab` may print other words; 0.7.5 is known to do: pip install google-colab-cli==0.7.5"
)
ANSWERED = {
    "Unauthorized": ("Colab does not know this login", "login"),
    "Forbidden": ("Colab forbids this account to {}", "denied"),
    "Too Many Requests": ("Colab was asked too often to {}", "unreachable"),
}
REASON = re.compile(r"ColabRequestError: .*: ([\w ]+)$")
ERRORS = {
    "denylisted": ("Colab denies this account its machines", "denied", "a person must ask Google why"),
    "outcome": ("Colab says that the quota is used up (outcome {})", "quota", UNITS_HINT),
    "hardware": (
        "Colab does not give this account this hardware",
        "denied",
        "choose other hardware (--gpu), or buy units",
    ),
    "no units": ("Colab refused a machine, and no units are left", "quota", UNITS_HINT),
    "precondition": ("Colab refused a machine: too many of them, or none of this hardware now", "refused", LATER_HINT),
    "Unauthorized": ("Colab does not know this login", "login", LOGIN_HINT),
    "Forbidden": ("Colab forbids this account its machines", "denied", "open Colab in a browser and see why"),
    "other": ("Colab has no machine now: {}", "refused", LATER_HINT),
}
WORDS_MAX, HEAD_CHARS = 300, 60
DENIED_OUTCOMES = {"5", "DENYLISTED"}


@dataclass(frozen=True, slots=True)
class Said:
    """How one call ended. ``code`` is None when it was cut off at its deadline; never to be trusted alone."""

    code: int | None
    out: str
    err: str

    @property
    def words(self) -> str:
        """The reason in the last line, for people; without addresses, because a machine's token stands in them."""
        lines = [line.strip() for line in f"{self.out}\n{self.err}".splitlines() if line.strip()]
        if not lines:
            return "it said nothing"
        if (reason := REASON.search(lines[-1])) is not None:
            return reason[1]
        if "Caused by" in lines[-1] and (causes := CAUSE.findall(lines[-1])):
            return ADDRESS.sub("", causes[-1]).strip()
        plain = BEFORE_REASON.sub("", ADDRESS.sub("", lines[-1])).strip()
        return plain if len(plain) <= WORDS_MAX else f"{plain[:HEAD_CHARS]} … {plain[-(WORDS_MAX - HEAD_CHARS) :]}"


def options_of(wanted: Wanted) -> list[str]:
    """Return the options of `new`: it takes every name that it does not know for the dearest machine it has."""
    kinds = {name.upper(): ["--gpu", name] for name in GPUS} | {name.upper(): ["--tpu", name] for name in TPUS}
    kinds |= {"": [], "CPU": []}
    if wanted.hardware.upper() not in kinds:
        raise MachineError(f"Colab has no {wanted.hardware}", "denied", f"one of: {', '.join([*GPUS, *TPUS])}")
    return kinds[wanted.hardware.upper()] + (["--high-mem"] if wanted.high_memory else [])


def listing(said: Said) -> list[Machine]:
    """Return every machine of the account, under the names that the command line knows; raises rather than leave one out."""
    found: list[Machine] = []
    lines = [line.strip() for line in said.out.splitlines() if line.strip()]
    for line in lines:
        if match := LINE.fullmatch(line):
            hardware = match["hardware"]
            found.append(
                Machine(match["name"].replace("?", ""), match["endpoint"], "" if hardware == "CPU" else hardware)
            )
        elif line != EMPTY and not CHATTER.fullmatch(line) and ("|" in line or line.startswith("[")):
            words = f"the list of Colab's machines has a line that is not understood: {Said(0, line, '').words}"
            raise MachineError(words, "unreachable", VERSION_HINT)
    if said.code != 0 or bool(found) == (EMPTY in lines):
        raise trouble(said, "list the machines")
    return found


def balance(said: Said) -> Balance:
    """Return what `usage` said."""
    units, rate = BALANCE.search(said.out), RATE.search(said.out)
    if said.code != 0 or not units or not rate:
        raise trouble(said, "tell the units")
    return Balance(float(units[1]), float(rate[1]))


def trouble(said: Said, doing: str) -> MachineError:
    """Return the error for a call that did not do what it was to do, where nobody knows what became of it."""
    text = said.out + said.err
    if any(each in text for each in LOGIN):
        return MachineError(f"Colab wants a login to {doing}", "login", LOGIN_HINT)
    if said.code is None:
        return MachineError(f"Colab did not answer in time to {doing}")
    if "Invalid value" in said.err or "No such option" in said.err:
        return MachineError(f"this colab command does not know how to {doing}: {said.words}", "failed", VERSION_HINT)
    reason = REASON.search(said.err.strip())
    if reason is not None and reason[1] in ANSWERED:
        words, kind = ANSWERED[reason[1]]
        return MachineError(words.format(doing), kind, ERRORS[reason[1]][2] if reason[1] in ERRORS else LATER_HINT)
    if "No space left on device" in text:
        return MachineError(
            f"a full disk kept Colab's command line from it: {said.words}", "home", "make room on this computer"
        )
    hint = (
        NETWORK_HINT if NETWORK.search(text) else "it is Colab's answer; it is tried again by itself" if reason else ""
    )
    return MachineError(f"Colab did not {doing}: {said.words}", "unreachable", hint)


def refusal(said: Said, logged: str, units: float | None) -> MachineError:
    """Return the error for a machine that was not made. ``logged``: what the command line wrote to its log meanwhile."""
    if said.code is None or any(each in said.out + said.err for each in LOGIN):
        return trouble(said, "make a machine")
    outcome = OUTCOME.search(said.err) or (OUTCOME.search(logged) if "ValidationError" in said.err else None)
    if outcome:
        denied = outcome[1].upper() in DENIED_OUTCOMES
        return _error("denylisted") if denied else _error("outcome", outcome[1])
    if "Backend rejected accelerator" in said.err:
        return _error("hardware")
    if "Allocation refused" in said.err:
        return _error("no units" if units is not None and units <= 0 else "precondition")
    reason = REASON.search(said.err.strip())
    return (
        _error(reason[1] if reason[1] in ERRORS else "other", reason[1]) if reason else trouble(said, "make a machine")
    )


def _error(what: str, word: str = "") -> MachineError:
    words, kind, hint = ERRORS[what]
    return MachineError(words.format(word), kind, hint)


def record_in(text: str, name: str) -> str:
    """Return a session's record out of the text of a sessions file, "" where it is not (whole) in it."""
    try:
        found = json.loads(text)[name]
        return json.dumps(found, sort_keys=True) if isinstance(found, dict) and found["endpoint"] else ""
    except (ValueError, KeyError, TypeError):
        return ""


def sessions_file(record: str) -> str:
    """Return the text of a sessions file with this one record, whose token is to be fetched afresh."""
    body = json.loads(record) | {"token_expires_at": None, "kernel_id": None, "session_id": None, "running": None}
    return json.dumps({body["name"]: body}, indent=2)
