"""``python -m supervisor.cli.kept FOLDER RUN STORE VERB …``: a session that tells its folder who it is and how it ended.

A notebook starts it in its own process session, so that it survives the kernel that started it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the command of the supervisor; return its exit code, which is also left in the folder."""
    from supervisor.cli import main as command_line
    from supervisor.engine import kept

    folder, run, store, *command = arguments
    kept.note(Path(folder), os.getpid(), run, store)
    code = command_line(command)
    kept.ended(Path(folder), code)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
