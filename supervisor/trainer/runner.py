"""Runs the user's script as ``__main__``, as plain Python would, and tells the supervisor how it ended."""

from __future__ import annotations

import signal
import sys
from importlib.abc import InspectLoader
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
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
        _execute(arguments[0], here.settings.module)
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


def _execute(script: str, named: str = "") -> None:
    """Do what ``python SCRIPT`` does; the module has no spec, so that multiprocessing finds the script by its file.

    ``named``: the module of this name is run instead, whose file the script is.
    """
    path = Path(script)
    if named:
        _execute_module(named, path)
        return
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


def _execute_module(name: str, file: Path) -> None:
    """Do what ``python -m NAME`` does in the folder from which the module is found; ``file`` is the module's."""
    parts = name.split(".")
    up = len(parts) if file.name == "__main__.py" and parts[-1] != "__main__" else len(parts) - 1
    if not sys.flags.safe_path:
        sys.path[0] = str(file.resolve().parents[up])
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the package's own __init__ lacks something
        spec = None
    code = spec.loader.get_code(spec.name) if spec is not None and isinstance(spec.loader, InspectLoader) else None
    if spec is None or code is None:
        raise SetupError(f"there is no module {name} to run", "start it in the folder in which python -m finds it")
    module = ModuleType("__main__")
    module.__file__, module.__loader__, module.__spec__ = spec.origin, spec.loader, spec
    module.__package__ = spec.parent
    module.__dict__.update(__cached__=spec.cached, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    sys.argv[0] = spec.origin or sys.argv[0]
    exec(code, module.__dict__)  # noqa: S102  # the user's own module


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
