"""Runs the user's script as ``__main__``, as plain Python would, and tells the supervisor how it ended."""

from __future__ import annotations

import signal
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED, INTERRUPTED, SUCCEEDED, USAGE, SetupError, UserError
from supervisor.trainer import ends, life, seeding

if TYPE_CHECKING:
    from supervisor.trainer.life import Life


def main(arguments: list[str]) -> int:
    """Return the exit code of the script; SystemExit passes through, so that Python prints what it always prints."""
    if not arguments:
        print("usage: python -m supervisor.trainer SCRIPT [ARGS…]", file=sys.stderr)
        return USAGE
    sys.argv = arguments
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        # because Slurm sends its notice to every process of a job step, and it is the supervisor's to act on it
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    here = life.here()
    try:
        here.seed = seeding.begin(here.settings.checkpoint)
        _watch(here)
        here.connect()
        _execute(arguments[0])
        if here.settings.attach and here.unattached is not None:
            from supervisor.trainer.hooks import attaching

            attaching.unused(here.unattached)
    except SystemExit as ended:
        if here.forked:
            raise
        here.failed = ended.code not in {None, SUCCEEDED}
        if not here.failed:
            _finish(here, ended)
        elif chosen := ends.chosen(here, ended):
            here.say_last(chosen)
        here.flush()
        raise
    except KeyboardInterrupt as error:
        here.failed = True
        _print_traceback(error)
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001  # because the supervisor must hear of every way a script can end
        return _report(here, error)
    _finish(here)
    return SUCCEEDED


def _watch(here: Life) -> None:
    if here.settings.supervised and here.settings.hooks:
        from supervisor.trainer import hooks
        from supervisor.trainer.hooks.unattached import Unattached

        script = Unattached(here)
        here.watch(script)
        hooks.install(script)


def _execute(script: str) -> None:
    """Do what ``python SCRIPT`` does; the module has no spec, so that multiprocessing finds the script by its file."""
    path = Path(script)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read {script}: {error.strerror}", "check the path of the script") from error
    if not sys.flags.safe_path:
        sys.path[0] = str(path.resolve().parent)
    module = ModuleType("__main__")
    module.__file__ = script
    module.__loader__ = SourceFileLoader("__main__", script)
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    exec(compile(source, script, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # the user's own script


def _finish(here: Life, ended: SystemExit | None = None) -> None:
    if here.stopped or here.forked:
        return
    if here.run is not None:
        here.run.close()
    here.say_last(ends.word(here, ended))


def _report(here: Life, error: BaseException) -> int:
    here.failed = True
    if isinstance(error, UserError):
        print(f"{error.what}\n{error.hint}", file=sys.stderr)
    else:
        _print_traceback(error)
    if here.forked:
        return FAILED
    if here.run is not None:
        here.run.look_back(error)
    here.say_last(ends.failure(here, error))
    return error.exit_code if isinstance(error, UserError) else FAILED


def _print_traceback(error: BaseException) -> None:
    sys.stdout.flush()
    error.__traceback__ = _script_frames(error.__traceback__)
    sys.excepthook(type(error), error, error.__traceback__)


def _script_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without this file's frames, as if the script had been run alone."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
