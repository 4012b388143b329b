"""``python -m supervisor.cli.notebook.detached FOLDER RUN STORE VERB …``: a session that survives the kernel.

A notebook starts it in its own process session, so that it survives the kernel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the supervisor's command; return its exit code, which is also written into the folder."""
    from supervisor.cli import main as command_line
    from supervisor.engine.run_catalog import detached

    folder, run, store, *command = arguments
    detached.note(Path(folder), os.getpid(), run, store)
    code = command_line(command)
    detached.ended(Path(folder), code)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
