"""Mounts Google Drive in a Colab notebook's kernel: with patience where that helps, and words of its own for each way it fails.

Only a kernel can do it, because Drive's consent is asked through the notebook's page. What google.colab says is never
believed: the mount table must show the mount, and My Drive must lie on it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import UserError
from supervisor.core.values import dataclass
from supervisor.platforms import colab

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONSENT_S = 120.0
SLOW_ROOT = 3  # times as long for a My Drive with very many files at its top
TRIES = 3
PAUSE_S = 5.0
ANSWER_S = 30.0
_ON_DRIVE = frozenset({"MyDrive", "My Drive", "Shareddrives", "Shared drives"})
SHOWN_MAX = 4
LOG_READ_BYTES = 200_000
ALIVE, DEAD, SILENT, LACKING = "alive", "dead", "silent", "lacking"
_DEAD_CODES = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
_LOOK = """import os, sys
try: os.stat(sys.argv[1])
except OSError as error: sys.exit(error.errno)
"""
_ANEW = "run this cell again; if it stays so: Runtime, Disconnect and delete runtime, then Run all"
_LASTING = "or keep the run elsewhere: --store DIR, on something that outlives this machine"


@dataclass(frozen=True, slots=True)
class World:
    """What the mounting looks at: the mount table (``kind_of`` a place: "" where nothing is mounted), variables, a clock.

    ``pause`` waits for seconds; ``say`` tells a person.
    """

    kind_of: Callable[[str], str]
    environ: Mapping[str, str]
    now_s: Callable[[], float]
    pause: Callable[[float], Any]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Failure:
    what: str
    hint: str
    again: bool = False
    patience: float = 1.0


def point_of(store: str, environ: Mapping[str, str]) -> str:
    """Return where Drive must be mounted for a store, "" if it is not on Drive or this is no machine that can mount it."""
    if not colab.is_here(environ) or colab.kind(environ) != "hosted":
        return ""
    place = os.path.abspath(store)  # noqa: PTH100, because resolve() asks the mount, which may hang
    parts = Path(place).parts
    if parts[1:2] == ("content",) and parts[3:4] and parts[3] in _ON_DRIVE:
        return str(Path(*parts[:3]))
    return colab.MOUNT if f"{place}/".startswith(f"{colab.MOUNT}/") else ""


def mount(world: World, point: str) -> bool:
    """Mount Drive and prove it; False if it was mounted already. Raises UserError."""
    answer = _answer(point) if world.kind_of(point) else ""
    if answer == ALIVE:
        return False
    if answer == SILENT:
        raise UserError(
            f"Drive is mounted at {point} and has not answered for {ANSWER_S:.0f} s",
            _ANEW,
        )
    if answer == DEAD:
        world.say(f"the mount at {point} is dead (Transport endpoint is not connected): mounting Drive anew")
    elif not answer:
        _refuse_what_lies_there(point)
    if answer != LACKING:
        _try(world, point, force=answer == DEAD)
    _prove(world, point)
    return answer != LACKING


def _prove(world: World, point: str) -> None:
    for left in reversed(range(TRIES)):
        if world.kind_of(point).startswith("fuse") and _answer(point) == ALIVE:
            return
        if left:
            world.pause(PAUSE_S)
    raise UserError(
        f"Drive does not show at {point}: the mount table lacks it, or it lacks My Drive",
        _ANEW,
    )


def _try(world: World, point: str, *, force: bool) -> None:
    patience = 1.0
    for left in reversed(range(TRIES)):
        began_s, allowed_s = world.now_s(), CONSENT_S * patience
        try:
            from google.colab import drive

            drive.mount(point, force_remount=force, timeout_ms=int(allowed_s * 1000))
        except Exception as error:  # because google.colab and pexpect raise kinds of their own
            failure = _explained(error, point, world, waited=world.now_s() - began_s >= allowed_s)
            if not failure.again or not left:
                raise UserError(failure.what, failure.hint) from error
            patience = failure.patience
            world.say(f"{failure.what}: trying again in {PAUSE_S:.0f} s")
            world.pause(PAUSE_S)
        else:
            return


def _explained(error: Exception, point: str, world: World, *, waited: bool) -> _Failure:
    """Say what an exception of ``drive.mount`` means. ``waited``: all the time for the consent went by."""
    kind, text = type(error).__name__, str(error).strip() or type(error).__name__
    module = type(error).__module__.partition(".")[0]
    if kind == "MessageError":
        return _refused(text)
    if module == "pexpect":
        return _Failure(
            f"Drive's own program did not answer while it was started ({kind})",
            _ANEW, again=True,
        )  # fmt: skip
    for kinds, words in _BY_KIND:
        if isinstance(error, kinds):
            return _Failure(words[0].format(text=text), words[1])
    for known, words in _BY_TEXT:
        if known in text:
            return _Failure(
                words[0].format(point=point), words[1].format(point=point), "initial read" in known, SLOW_ROOT
            )
    if "mount failed" in text:
        return _plainly_failed(world, waited=waited)
    return _Failure(f"Drive could not be mounted: {kind}: {text}", f"run this cell again, {_LASTING}")


def _refused(text: str) -> _Failure:
    if "400" in text:
        return _Failure(
            f"Google could not pass your consent on to this machine ({text})",
            "this happens where a browser is signed in with several accounts: open the notebook in a private window"
            " with the one account, and run this cell again",
        )
    return _Failure(
        f"Drive was not allowed: the consent was refused or its window was closed ({text})",
        "run this cell again and allow it, with the account this notebook belongs to",
    )


def _plainly_failed(world: World, *, waited: bool) -> _Failure:
    """Drive's program ended without a reason: the time for the consent, its log, or chance has one."""
    if waited:
        return _Failure(
            f"nobody answered the question for Drive's consent within {CONSENT_S:.0f} s",
            "run this cell again and answer it in the window that opens (allow pop-ups for this page)",
        )
    if _log_has(world.environ, "QUOTA_EXCEEDED", "storageQuota", "downloadQuotaExceeded"):
        return _Failure(
            "Drive refuses: this account's quota is used up, or too much of it was read today",
            f"make room (the trash counts too) or try again tomorrow, {_LASTING}",
        )
    return _Failure(
        "Drive could not be mounted (mount failed), as happens while the machine is still being told who you are",
        _ANEW, again=True,
    )  # fmt: skip


_BY_KIND: tuple[tuple[type[Exception] | tuple[type[Exception], ...], tuple[str, str]], ...] = (
    (ImportError, ("google.colab is not in this Python: {text}", f"run this in Colab's own kernel, {_LASTING}")),
    (
        NotImplementedError,
        ("this Colab cannot mount Drive: it is Colab Enterprise or a runtime of your own", _LASTING[3:]),
    ),
    (
        KeyError,
        (
            "this machine was not told where to ask for Drive's consent: {text} is not set",
            f"run this cell in the notebook's own kernel on a machine of Colab's, {_LASTING}",
        ),
    ),
    (
        AttributeError,
        (
            "Drive can only be mounted from a cell of the notebook, because the consent is asked through its page",
            "run %supervisor mount, or drive.mount of google.colab, in a cell",
        ),
    ),
)
_IN_THE_WAY = "see what it is (!ls -l {point}), move it away, and run this cell again"
_BY_TEXT: tuple[tuple[str, tuple[str, str]], ...] = (
    (
        "initial read of root folder",
        (
            "Drive did not list My Drive in time: there are very many files at its top",
            "move files from the top of My Drive into folders, then run this cell again: what was read is remembered",
        ),
    ),
    (
        "domain policy",
        (
            "the administrator of this account's domain has switched Drive off for programs like this",
            f"ask them, or use another account, {_LASTING}",
        ),
    ),
    ("must not be a symlink", ("{point} is a symbolic link, and Drive cannot be mounted on one", _IN_THE_WAY)),
    ("must not already contain files", ("{point} holds files of this machine's own disk", _IN_THE_WAY)),
    ("must either be a directory", ("{point} is a file, and Drive is mounted on a folder", _IN_THE_WAY)),
    ("must be in a directory that exists", ("the folder that {point} lies in does not exist", "make it: !mkdir -p")),
    (
        "must not contain a space",
        ("{point} has a space in it, which Drive's program cannot take", "use /content/drive"),
    ),
)


def _refuse_what_lies_there(point: str) -> None:
    """Say before the consent is asked for what would make the mount fail after it."""
    place = Path(point)
    if place.is_symlink():
        raise UserError(
            f"{point} is a symbolic link, and Drive cannot be mounted on one", _IN_THE_WAY.format(point=point)
        )
    try:
        names = sorted(each.name for each in place.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UserError(
            f"{point} is a file, and Drive is mounted on a folder", _IN_THE_WAY.format(point=point)
        ) from None
    if names:
        more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
        raise UserError(
            f"{point} is a plain folder with something in it ({', '.join(names[:SHOWN_MAX])}{more}):"
            " it was written before Drive was mounted, and would be lost with this machine",
            f"move it away and run this cell again: !mv {point} {point}-before; copy what you need back afterwards",
        )


def _answer(point: str) -> str:
    """Ask a mount whether My Drive is there. In a process of its own, because one that hangs would keep the kernel."""
    look = [sys.executable, "-S", "-c", _LOOK, f"{point}/MyDrive"]
    try:
        code = subprocess.run(look, check=False, timeout=ANSWER_S, capture_output=True).returncode
    except subprocess.TimeoutExpired:
        return SILENT
    if code == 0:
        return ALIVE
    return DEAD if code in _DEAD_CODES else LACKING


def _log_has(environ: Mapping[str, str], *words: str) -> bool:
    """Whether the log of Drive's program says one of these in its last part."""
    path = Path(environ.get("HOME", "/")) / ".config/Google/DriveFS/Logs/drive_fs.txt"
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_READ_BYTES))
            told = file.read().decode("utf-8", "replace")
    except OSError:
        return False  # there is none, so it says nothing
    return any(word in told for word in words)
