"""How the script ended, for the supervisor: which kind of error, at which of its own lines, inside its loop or after it."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import INTERRUPTED, TERMINATED, USAGE, SetupError, UsageError
from supervisor.core.masking import masked_text
from supervisor.core.messages import Finished, ScriptFailed
from supervisor.trainer.refused import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

    from supervisor.trainer.life import Life

MESSAGE_CHARACTERS_MAX, LINE_CHARACTERS_MAX = 2000, 300
THREADS_NAMED = 3
FRAMES_MAX = 100
CHAIN_MAX = 10
OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_GENERATORS = (
    0x20 | 0x80 | 0x200
)  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR of inspect, which takes long to import
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ALWAYS_CODE = (NameError, SyntaxError, ImportError)
_CODE_AT_FIRST = (TypeError, AttributeError)  # before the first step, at a line of the script's own
_SAME_EACH_TIME = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_OUTAGES = (OSError, MemoryError)
# Of errors that are no OSError: packages that talk to others over a network, names of errors of devices, and the words
# that torch's RuntimeErrors of devices, workers and links begin with or hold.
_NETWORK_PACKAGES = frozenset(
    {
        "aiohttp",
        "botocore",
        "fsspec",
        "gcsfs",
        "grpc",
        "httpcore",
        "httpx",
        "huggingface_hub",
        "requests",
        "s3fs",
        "urllib3",
    }
)
_DEVICE_ERRORS = frozenset(
    {"AbortedError", "AcceleratorError", "BrokenProcessPool", "DeadlineExceededError", "DistBackendError", "DistNetworkError",
     "InternalError", "JaxRuntimeError", "ResourceExhaustedError", "UnavailableError", "XlaRuntimeError"}
)  # fmt: skip
_DEVICE_WORDS = (
    "CUDA error", "cuDNN error", "CUBLAS", "NCCL", "HIP error", "device-side assert", "out of memory", "DataLoader worker",
    "DataLoader timed out", "timed out", "onnection",
)  # fmt: skip


class Left:
    """Where a loop was left: the frames above it at that moment, its own first."""

    def __init__(self, frame: FrameType | None) -> None:
        self._chain: list[tuple[CodeType, int]] = []
        while frame is not None and len(self._chain) < FRAMES_MAX:
            self._chain.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back

    def by(self, error: BaseException) -> bool:
        """Say whether this error left it: the frame that had the loop is in its traceback, at the same instruction.

        Generators in between (a progress bar) are closed without the error, so the first frame that is none decides.
        """
        passed = {(each.tb_frame.f_code, each.tb_lasti) for each in _traces(error.__traceback__)}
        for code, at in self._chain:
            if (code, at) in passed:
                return True
            if not code.co_flags & _GENERATORS:
                return False
        return False


def failure(here: Life, error: BaseException) -> ScriptFailed:
    """Return what the supervisor is told of an exception that ended the script."""
    ours = isinstance(error, RefusedError | SetupError | UsageError)
    message = str(error)[:MESSAGE_CHARACTERS_MAX] if ours else in_one_line(str(error))
    return ScriptFailed(_kind(here, error), type(error).__name__, message, where(error))


def in_one_line(message: str) -> str:
    """Return a message as it fits into one line, without secrets; the traceback above it has all of it, with its colours."""
    words = masked_text(" ".join(_COLOUR.sub("", message).split()))
    return words if len(words) <= LINE_CHARACTERS_MAX else f"{words[:LINE_CHARACTERS_MAX]} …"


def chosen(here: Life, ended: SystemExit) -> ScriptFailed | None:
    """Return what is told of ``sys.exit`` with another code than 0; None where it was asked for from outside."""
    if ended.code in {INTERRUPTED, TERMINATED} or here.stopped:
        return None
    if ended.code == USAGE and not _made_progress(here):
        return ScriptFailed("setup", "the script refused its arguments (exit code 2)", "", where(ended))
    words = f"exit code {ended.code}" if isinstance(ended.code, int) else f"exit code 1: {str(ended.code).strip()}"
    words = masked_text(words)[:MESSAGE_CHARACTERS_MAX]
    return ScriptFailed("exit", "", f"the script ended with {words}", where(ended))


def word(here: Life, ended: SystemExit | None) -> Finished | ScriptFailed:
    """Return what is told of exit code 0: finished, or ended inside a loop that had not come to its total."""
    run, script = here.run, here.unattached
    step = here.step
    if run is not None:
        total, inside = run.short_of, ended is not None and run.is_inside_loop(ended)
        if run.stopped_short:
            words = f"training stopped at step {step:,} of {run.short_of:,}, without a word of its framework that it stops early"
            return ScriptFailed("short", "", words, "")
    else:
        driven = script is not None and script.driver is not None
        total = script.total_steps if script is not None and driven else None
        inside = ended is not None and driven and (total is None or step < total)
    if ended is not None and inside:
        of = f" of {total:,}" if total else ""
        words = f"the script ended itself with exit code 0 inside its loop, at step {step:,}{of}"
        return ScriptFailed("left", "", words, where(ended))
    return Finished(step, total if run is not None else None, _left())


def where(error: BaseException) -> str:
    """Return the line of the script's own at which it failed, as ``file:line``; of foreign code alone, that one's last."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    traces = list(_traces(error.__traceback__))
    own = [trace for trace in traces if _is_own(trace.tb_frame.f_code.co_filename)]
    if not traces:
        return ""
    last = (own or traces)[-1]
    return f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"


def _kind(here: Life, error: BaseException) -> str:
    if isinstance(error, RefusedError):
        return "refused"
    if isinstance(error, SetupError | UsageError):
        return "setup"
    if here.run is not None and here.run.is_device_oom(error):
        return "device-oom"
    if isinstance(error, _ALWAYS_CODE):
        unstarted = isinstance(error, SyntaxError | ImportError) and not _made_progress(here)
        return "setup" if unstarted else "code"
    if any(_is_outage(each) for each in _chain(error)):
        return "outage"
    traces = list(_traces(error.__traceback__))
    at_own_line = bool(traces) and _is_own(traces[-1].tb_frame.f_code.co_filename)
    return "code" if isinstance(error, _CODE_AT_FIRST) and at_own_line and not _made_progress(here) else "script"


def _made_progress(here: Life) -> bool:
    if here.run is not None:
        return here.run.came_through_a_step
    return here.unattached is not None and here.unattached.stepped_yet


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, _OUTAGES):
        return not isinstance(error, _SAME_EACH_TIME)
    kinds = type(error).__mro__
    if any(kind.__module__.partition(".")[0] in _NETWORK_PACKAGES or kind.__name__ in _DEVICE_ERRORS for kind in kinds):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _DEVICE_WORDS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it came from."""
    for _ in range(CHAIN_MAX):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _traces(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_own(file: str) -> bool:
    """Say whether a file is the user's: no part of Python, of an installed package or of the supervisor."""
    path = str(Path(file).absolute())
    foreign = (OURS, *_foreign())
    return not file.startswith("<") and not path.startswith(foreign) and "site-packages" not in path


def _foreign() -> tuple[str, ...]:
    import sysconfig  # only where something failed

    paths = sysconfig.get_paths()
    return tuple({paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _left() -> str:
    """Name the threads that the process waits for before it ends; "" for none."""
    threads = [each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    names = ", ".join(repr(each.name) for each in threads[:THREADS_NAMED])
    if not threads:
        return "child processes" if _has_children() else ""
    if len(threads) == 1:
        return f"the thread {names}"
    return f"{len(threads)} threads, {names}" + (" and others" if len(threads) > THREADS_NAMED else "")


def _has_children() -> bool:
    workers = sys.modules.get("multiprocessing.process")
    return workers is not None and any(not each.daemon for each in workers.active_children())
