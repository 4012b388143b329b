"""Google Colab: machines of at most about 12 hours, that end without a signal. Recognised by its variables alone."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.deadline import Lifetime
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.ports import Platform
from supervisor.engine import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from supervisor.core.instant import Instant

MOUNT = "/content/drive"
DRIVE = f"{MOUNT}/MyDrive"
STAMP = Path("/content/.training-supervisor-first-seen.json")
HOSTNAME = Path("/var/colab/hostname")
# Nothing on the machine tells the tier. Free ones live 12 h, paid ones up to 24 h: a longer life is learned when seen.
LIFE_S = 12 * 3600.0
PRIOR_LIFE_S = 6 * 3600.0
ANSWER_S = 10.0
FLUSH_HINT = "keep this machine until Drive shows the checkpoint; it uploads by itself"
NO_NOTICE = "none is given: a Colab machine ends without a word, so checkpoints go out all the time"
ITS_OWN_LIMITS = "its administrator sets how long it lives; --budget TIME tells it to the run"
_OF_DRIVE = re.compile(r"(/content/[^/]+)/(My ?Drive|Shareddrives|Shared drives)(/|$)")


def is_here(environ: Mapping[str, str]) -> bool:
    """COLAB_RELEASE_TAG is set on Colab's machines and images, and inherited by what a notebook starts."""
    return bool(environ.get("COLAB_RELEASE_TAG")) or kind(environ) == "enterprise"


def kind(environ: Mapping[str, str]) -> str:
    """Return "enterprise", "hosted" (Google's own machine) or "local" (Colab's image on one's own computer)."""
    if environ.get("VERTEX_PRODUCT") == "COLAB_ENTERPRISE":
        return "enterprise"
    return "hosted" if environ.get("TBE_RUNTIME_ADDR") else "local"


def describe(
    environ: Mapping[str, str], now: Instant, *, stamp: Path | None = None, hostname: Path | None = None
) -> Platform:
    """Return Colab's planning figures; a promise of how long a machine lives is never made."""
    which = kind(environ)
    if which != "hosted":
        title = "a machine of Colab Enterprise" if which == "enterprise" else "a local runtime of Colab"
        return Platform("colab", "./runs", 72 * 3600.0, title=title, notice=f"none is given; {ITS_OWN_LIMITS}")
    name = _text(hostname or HOSTNAME)
    return Platform(
        name="colab",
        store=f"{DRIVE}/supervisor",
        prior_life_s=PRIOR_LIFE_S,
        lifetime=Lifetime(LIFE_S, hard=False),
        age_s=_age_s(now, stamp or STAMP, {"boot": identity.mine()["boot"], "hostname": name}),
        flush=flush,
        title=f"Colab machine {name}" if name else "a Colab machine",
        notice=NO_NOTICE,
        release=partial(release, environ["TBE_RUNTIME_ADDR"]),
    )


def check_store(where: str, is_mount: Callable[[str], bool], environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a place on Drive while Drive is not mounted: a plain folder of that name would die with the machine."""
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
    """Let Drive upload all it holds and unmount it (google.colab.drive.flush_and_unmount). Raises UserError.

    In a process of its own, because it may hang longer than it promises; it needs no notebook kernel.
    """
    import subprocess
    import sys

    said = f"from google.colab import drive; drive.flush_and_unmount(timeout_ms={within_s * 1000:.0f})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", said], check=False, capture_output=True, text=True, timeout=within_s + 5
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Drive was not flushed: {error}", FLUSH_HINT) from error
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"Drive was not flushed: {last}", FLUSH_HINT)


def release(address: str) -> None:
    """Give this machine back: what google.colab.runtime.unassign asks, which itself works in a kernel only.

    A connection that breaks after the question is the machine that goes.
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
        raise UserError(f"this machine could not be given back: {why}", hint)


def _age_s(now: Instant, stamp: Path, machine: Mapping[str, str]) -> float:
    """Return for how long this machine is ours, at most since its boot: it may have been warmed up before.

    A stamp that is not there, or is of another boot or name, is a new machine's.
    """
    try:
        kept = json.loads(stamp.read_bytes())
        if {name: kept[name] for name in machine} == dict(machine):
            return min(max(0.0, now.mono_s - float(kept["mono_s"])), now.mono_s)
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or torn: this is the first sight of the machine
        pass
    try:
        temporary = stamp.with_name(f"{stamp.name}.{os.getpid()}")
        temporary.write_text(json.dumps({**machine, "mono_s": now.mono_s}))
        temporary.rename(stamp)
    except OSError:
        return now.mono_s  # nothing can be kept here: then the boot is the only bound
    return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
