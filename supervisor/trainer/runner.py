"""Runs the user's script as ``__main__``, as plain Python would, and reports to the supervisor how it ended."""

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
from supervisor.trainer import context as trainer_context
from supervisor.trainer.process import script_end, seeding

if TYPE_CHECKING:
    from supervisor.trainer.context import TrainerContext


def main(arguments: list[str]) -> int:
    """Run the script and return its exit code. SystemExit passes through, so that Python prints its usual message."""
    if not arguments:
        print("usage: python -m supervisor.trainer SCRIPT [ARGS…]", file=sys.stderr)
        return USAGE
    sys.argv = arguments
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        # because Slurm sends its notice to every process of a job step, and it is the supervisor's to act on it
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    context = trainer_context.current()
    try:
        context.seed = seeding.begin(context.settings.checkpoint)
        _install_hooks(context)
        context.connect()
        _run_script(arguments[0], context.settings.module)
        if context.settings.auto_attach and context.unmodified_script is not None:
            from supervisor.trainer.hooks import auto_attach

            auto_attach.warn_if_unused(context.unmodified_script)
    except SystemExit as ended:
        if context.forked:
            raise
        context.failed = ended.code not in {None, SUCCEEDED}
        if not context.failed:
            _finish(context, ended)
        elif exit_failure := script_end.exit_failure(context, ended):
            context.send_final(exit_failure)
        context.flush()
        raise
    except KeyboardInterrupt as error:
        context.failed = True
        _print_traceback(error)
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001  # because the supervisor must hear of every way a script can end
        return _report_error(context, error)
    _finish(context)
    return SUCCEEDED


def _install_hooks(context: TrainerContext) -> None:
    if context.settings.supervised and context.settings.hooks:
        from supervisor.trainer import hooks
        from supervisor.trainer.hooks.unmodified_script import UnmodifiedScript

        script = UnmodifiedScript(context)
        context.watch(script)
        hooks.install(script)


def _run_script(script: str, module_name: str = "") -> None:
    """Do what ``python SCRIPT`` does. The module has no spec, so that multiprocessing finds the script by its file.

    With ``module_name``, the module of this name runs instead, and the script is its file.
    """
    path = Path(script)
    if module_name:
        _run_module(module_name, path)
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


def _run_module(name: str, file: Path) -> None:
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


def _finish(context: TrainerContext, ended: SystemExit | None = None) -> None:
    if context.stopped or context.forked:
        return
    if context.run is not None:
        context.run.close()
    context.send_final(script_end.outcome_message(context, ended))


def _report_error(context: TrainerContext, error: BaseException) -> int:
    context.failed = True
    if isinstance(error, UserError):
        print(f"{error.what}\n{error.hint}", file=sys.stderr)
    else:
        _print_traceback(error)
    if context.forked:
        return FAILED
    if context.run is not None:
        context.run.flush_on_error(error)
    context.send_final(script_end.failure_message(context, error))
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
