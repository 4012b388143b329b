"""Classifies how the script ended: the kind of error, its line in the script, and inside its loop or after it."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.errors import INTERRUPTED, TERMINATED, USAGE, SetupError, UsageError
from supervisor.core.masking import masked_text
from supervisor.core.wire.messages import Finished, ScriptFailed
from supervisor.trainer.errors import UnsupportedStateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

    from supervisor.trainer.context import TrainerContext

MESSAGE_CHARACTERS_MAX, LINE_CHARACTERS_MAX = 2000, 300
THREADS_NAMED = 3
FRAMES_MAX = 100
CHAIN_MAX = 10
PACKAGE_DIR = str(Path(__file__).resolve().parents[2]) + os.sep
_GENERATORS = (
    0x20 | 0x80 | 0x200
)  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR of inspect, which takes long to import
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CODE_ERRORS = (NameError, SyntaxError, ImportError)
_EARLY_CODE_ERRORS = (TypeError, AttributeError)  # before the first step, at a line of the script's own
_PERMANENT_OS_ERRORS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_TRANSIENT_ERRORS = (OSError, MemoryError)
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
_DEVICE_PHRASES = (
    "CUDA error", "cuDNN error", "CUBLAS", "NCCL", "HIP error", "device-side assert", "out of memory", "DataLoader worker",
    "DataLoader timed out", "timed out", "onnection",
)  # fmt: skip


class LoopExit:
    """Where the script left a loop: the frames above the loop at that moment, the loop's own first."""

    def __init__(self, frame: FrameType | None) -> None:
        self._frames: list[tuple[CodeType, int]] = []
        while frame is not None and len(self._frames) < FRAMES_MAX:
            self._frames.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back

    def caused_by(self, error: BaseException) -> bool:
        """Return whether this error left the loop: its traceback has the loop's frame at the same instruction.

        Generators in between, such as a progress bar, are closed without the error. So the first frame of another kind decides.
        """
        passed = {(each.tb_frame.f_code, each.tb_lasti) for each in _traces(error.__traceback__)}
        for code, at in self._frames:
            if (code, at) in passed:
                return True
            if not code.co_flags & _GENERATORS:
                return False
        return False


def failure_message(context: TrainerContext, error: BaseException) -> ScriptFailed:
    """Return the message for an exception that ended the script."""
    is_known = isinstance(error, UnsupportedStateError | SetupError | UsageError)
    message = str(error)[:MESSAGE_CHARACTERS_MAX] if is_known else in_one_line(str(error))
    return ScriptFailed(_kind(context, error), type(error).__name__, message, error_location(error))


def in_one_line(message: str) -> str:
    """Return a message that fits into one line, without secrets. The traceback above it has the full text."""
    message = masked_text(" ".join(_COLOUR.sub("", message).split()))
    return message if len(message) <= LINE_CHARACTERS_MAX else f"{message[:LINE_CHARACTERS_MAX]} …"


def exit_failure(context: TrainerContext, ended: SystemExit) -> ScriptFailed | None:
    """Return the message for ``sys.exit`` with a code other than 0; None if the exit was requested from outside."""
    if ended.code in {INTERRUPTED, TERMINATED} or context.stopped:
        return None
    if ended.code == USAGE and not _made_progress(context):
        return ScriptFailed("setup", "the script refused its arguments (exit code 2)", "", error_location(ended))
    message = f"exit code {ended.code}" if isinstance(ended.code, int) else f"exit code 1: {str(ended.code).strip()}"
    message = masked_text(message)[:MESSAGE_CHARACTERS_MAX]
    return ScriptFailed("exit", "", f"the script ended with {message}", error_location(ended))


def outcome_message(context: TrainerContext, ended: SystemExit | None) -> Finished | ScriptFailed:
    """Return the message for exit code 0: finished, or ended inside a loop before its total."""
    run, script = context.run, context.unmodified_script
    step = context.step
    if run is not None:
        total, inside = run.unreached_total, ended is not None and run.is_inside_loop(ended)
        if run.stopped_short:
            message = f"training stopped at step {step:,} of {run.unreached_total:,}, without a word of its framework that it stops early"
            return ScriptFailed("short", "", message, "")
    else:
        driven = script is not None and script.loop is not None
        total = script.total_steps if script is not None and driven else None
        inside = ended is not None and driven and (total is None or step < total)
    if ended is not None and inside:
        of = f" of {total:,}" if total else ""
        message = f"the script ended itself with exit code 0 inside its loop, at step {step:,}{of}"
        return ScriptFailed("left", "", message, error_location(ended))
    return Finished(step, total if run is not None else None, _unfinished_workers())


def error_location(error: BaseException) -> str:
    """Return the script's line at which it failed, as ``file:line``.

    If only library code is involved, return its last line.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    traces = list(_traces(error.__traceback__))
    own = [trace for trace in traces if _is_user_file(trace.tb_frame.f_code.co_filename)]
    if not traces:
        return ""
    last = (own or traces)[-1]
    return f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"


def _kind(context: TrainerContext, error: BaseException) -> str:
    if isinstance(error, UnsupportedStateError):
        return "refused"
    if isinstance(error, SetupError | UsageError):
        return "setup"
    if context.run is not None and context.run.is_device_oom(error):
        return "device-oom"
    if isinstance(error, _CODE_ERRORS):
        unstarted = isinstance(error, SyntaxError | ImportError) and not _made_progress(context)
        return "setup" if unstarted else "code"
    if any(_is_outage(each) for each in _causes(error)):
        return "outage"
    traces = list(_traces(error.__traceback__))
    at_own_line = bool(traces) and _is_user_file(traces[-1].tb_frame.f_code.co_filename)
    return "code" if isinstance(error, _EARLY_CODE_ERRORS) and at_own_line and not _made_progress(context) else "script"


def _made_progress(context: TrainerContext) -> bool:
    if context.run is not None:
        return context.run.completed_a_step
    return context.unmodified_script is not None and context.unmodified_script.has_stepped


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, _TRANSIENT_ERRORS):
        return not isinstance(error, _PERMANENT_OS_ERRORS)
    kinds = type(error).__mro__
    if any(kind.__module__.partition(".")[0] in _NETWORK_PACKAGES or kind.__name__ in _DEVICE_ERRORS for kind in kinds):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _DEVICE_PHRASES)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its chain of causes."""
    for _ in range(CHAIN_MAX):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _traces(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_user_file(file: str) -> bool:
    """Return whether a file is the user's: not Python's, an installed package's or the supervisor's."""
    path = str(Path(file).absolute())
    libraries = (PACKAGE_DIR, *_library_dirs())
    return not file.startswith("<") and not path.startswith(libraries) and "site-packages" not in path


def _library_dirs() -> tuple[str, ...]:
    import sysconfig  # only where something failed

    paths = sysconfig.get_paths()
    return tuple({paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _unfinished_workers() -> str:
    """Name the threads that the process waits for at its end; "" for none."""
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
