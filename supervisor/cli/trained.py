"""The trained model of an exported checkpoint as one file: ``checkpoints export … --as torch|safetensors``."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from supervisor.core.errors import FAILED_SETUP, UsageError, UserError
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILES = {"torch": "model.pt", "safetensors": "model.safetensors"}
FORMS = (*FILES, "keras")


def check(form: str | None) -> None:
    """Refuse now what could only fail after the export."""
    if form == "keras":
        raise UsageError(
            "a Keras model writes its weights itself",
            "export without --as, build the model, supervisor.load_model_state(DIR, into=model), model.save_weights(FILE)",
        )


def write(form: str, folder: Path, script: Path) -> Path:
    """Write the model of the exported ``folder`` beside its other files, and return the file. Raises UserError.

    A Python that has torch is found as for the run itself: this one, or the private environment of ``script``.
    """
    from supervisor.engine.comparison import environ
    from supervisor.engine.launcher import PACKAGES, own_packages

    file = folder / FILES[form]
    python, variables = _python(form, script)
    told = subprocess.run(
        [python, "-m", "supervisor.trainer.trained", form, str(folder), str(file)],
        env={**variables, **environ({PACKAGES: own_packages()})}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if told.returncode != 0:
        lines = [*told.stderr.strip().splitlines(), "", ""]
        what, hint = lines[:2] if len(lines) == 4 else (lines[-3], "see `checkpoints verify`, then try again")  # noqa: PLR2004
        raise UserError(f"exported to {folder}, but {file.name} was not written: {what}", hint, told.returncode)
    return file


def _python(form: str, script: Path) -> tuple[str, Mapping[str, str]]:
    if form != "torch" or find_spec("torch") is not None or not script.is_file():
        return sys.executable, {}
    from supervisor.environments.prepare import prepare
    from supervisor.wiring import CHECKOUT

    try:
        made = prepare(script, python=sys.executable, root=CHECKOUT, recorded=None, wheels=None, say=_say)
    except UserError as error:
        raise UserError(error.what, f"{error.hint}; or --as safetensors, which needs no torch", FAILED_SETUP) from error
    return made.python, made.env


def _say(words: str) -> None:
    show(words, sys.stderr)
