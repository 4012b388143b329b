"""Google Colab: machines of at most about 12 hours that end without a signal. Detected by variables only."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.policy.deadline import TimeLimit
from supervisor.core.ports import Platform
from supervisor.engine import atomic
from supervisor.engine.trainer_process import process_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.clock import Instant

MOUNT = "/content/drive"
DRIVE = f"{MOUNT}/MyDrive"
STAMP = Path("/content/.training-supervisor-first-seen.json")
HOSTNAME = Path("/var/colab/hostname")
# The machine does not tell its tier. Free ones live 12 h, paid ones up to 24 h; a longer lifetime is learned.
LIFE_S = 12 * 3600.0
PRIOR_LIFE_S = 6 * 3600.0
ANSWER_S = 10.0
FLUSH_HINT = "keep this machine until Drive shows the checkpoint; it uploads by itself"
NO_NOTICE = "none is given: a Colab machine ends without a notice, so checkpoints are uploaded all the time"
ITS_OWN_LIMITS = "its administrator sets its time limit; pass it with --time-limit TIME"
_OF_DRIVE = re.compile(r"(/content/[^/]+)/(My ?Drive|Shareddrives|Shared drives)(/|$)")


def is_here(environ: Mapping[str, str]) -> bool:
    """Return True if COLAB_RELEASE_TAG is set.

    Colab's machines and images set it, and a notebook's children inherit it.
    """
    return bool(environ.get("COLAB_RELEASE_TAG")) or kind(environ) == "enterprise"


def kind(environ: Mapping[str, str]) -> str:
    """Return "enterprise", "hosted" (Google's own machine) or "local" (Colab's image on the user's computer)."""
    if environ.get("VERTEX_PRODUCT") == "COLAB_ENTERPRISE":
        return "enterprise"
    return "hosted" if environ.get("TBE_RUNTIME_ADDR") else "local"


def describe(
    environ: Mapping[str, str], now: Instant, *, stamp: Path | None = None, hostname: Path | None = None
) -> Platform:
    """Return Colab's planning figures. They are no promise of a machine's lifetime."""
    which = kind(environ)
    if which != "hosted":
        title = "a machine of Colab Enterprise" if which == "enterprise" else "a local runtime of Colab"
        return Platform("colab", "./runs", 72 * 3600.0, title=title, notice=f"none is given; {ITS_OWN_LIMITS}")
    name = _text(hostname or HOSTNAME)
    return Platform(
        name="colab",
        store=f"{DRIVE}/supervisor",
        prior_life_s=PRIOR_LIFE_S,
        lifetime=TimeLimit(LIFE_S, hard=False),
        age_s=_age_s(now, stamp or STAMP, {"boot": process_identity.mine()["boot"], "hostname": name}),
        flush=flush,
        title=f"Colab machine {name}" if name else "a Colab machine",
        notice=NO_NOTICE,
        release=partial(release, environ["TBE_RUNTIME_ADDR"]),
    )


def check_store(where: str, is_mount: Callable[[str], bool], environ: Mapping[str, str] = os.environ) -> None:
    """Reject a place on Drive while Drive is not mounted: a plain folder of that name is lost with the machine."""
    of_drive = _OF_DRIVE.match(where)
    mount = of_drive[1] if of_drive else MOUNT
    if not f"{where}/".startswith(f"{mount}/") or is_mount(mount):
        return
    hints = {
        "hosted": f'run this cell, then start again: from google.colab import drive; drive.mount("{mount}")',
        "enterprise": "Colab Enterprise cannot mount Drive: give another --store, as a bucket that is mounted here",
        "local": "a local runtime cannot mount Drive by itself: give --store a folder of this computer, as ./runs",
    }
    what = f"{where} is on Google Drive, and Drive is not mounted here"
    raise UserError(what, hints[kind(environ)], FAILED_PRECHECKS)


def flush(within_s: float) -> None:
    """Let Drive upload everything and unmount it (google.colab.drive.flush_and_unmount). Raises UserError.

    It runs in its own process, because it may exceed its timeout. It needs no notebook kernel.
    """
    import subprocess
    import sys

    code = f"from google.colab import drive; drive.flush_and_unmount(timeout_ms={within_s * 1000:.0f})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=within_s + 5
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Drive was not flushed: {error}", FLUSH_HINT) from error
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"Drive was not flushed: {last}", FLUSH_HINT)


def release(address: str) -> None:
    """Release this machine. It sends the request of google.colab.runtime.unassign, which works only in a kernel.

    A connection that breaks after the request means that the machine ends.
    """
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    direct = build_opener(ProxyHandler({}))  # the address is the machine's own: no proxy leads there
    try:
        direct.open(Request(f"http://{address}/unassign", data=b"", method="POST"), timeout=ANSWER_S).close()
    except HTTPError as error:
        error.close()
        why = f"its runtime answers {error.code}"
    except URLError as error:
        why = str(error.reason)
    except (ConnectionError, HTTPException) as error:
        why = str(error) if isinstance(error, InvalidURL) else ""
    except OSError as error:
        why = str(error)
    else:
        why = ""
    if why:
        hint = "Runtime, Disconnect and delete runtime does it by hand; until then it uses up compute units"
        raise UserError(f"this machine could not be released: {why}", hint)


def _age_s(now: Instant, stamp: Path, machine: Mapping[str, str]) -> float:
    """Return for how long the machine is ours, at most since its boot: it may have been booted before its assignment.

    A missing stamp, or one of another boot or host name, means a new machine.
    """
    try:
        stamped = json.loads(stamp.read_bytes())
        if {name: stamped[name] for name in machine} == dict(machine):
            return min(max(0.0, now.mono_s - float(stamped["mono_s"])), now.mono_s)
    except (OSError, ValueError, KeyError, TypeError):  # absent or truncated: the first start on this machine
        pass
    try:
        atomic.replace(stamp, json.dumps({**machine, "mono_s": now.mono_s}).encode(), unique=True)
    except OSError:
        return now.mono_s  # nothing can be stored here: the boot is the only bound
    return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
