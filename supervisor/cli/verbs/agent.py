"""agent FOLDER: started by `launch` on each machine.

It runs the supervisor there and transfers its results to the computer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.bootstrap import ensure
from supervisor.cli.options import Parser, parser
from supervisor.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Serve the machine's folder until its job is done and its results are transferred; return the exit code."""
    options = _parser().parse_args(arguments)
    folder = Path(options.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    from supervisor.fleet.agent import agent, agent_status
    from supervisor.fleet.agent.agent_paths import AgentPaths

    try:
        ensure()
    except UserError as error:
        agent_status.write_failure(folder, error)
        raise
    from supervisor import composition
    from supervisor.engine.clock import BootClock

    environ = {**os.environ, "SUPERVISOR_RUN_LOCAL": str(folder / "local")}
    store = composition.open_store(f"{composition.RELAY}{folder / 'store'}")
    return agent.serve(AgentPaths(folder, store, composition.local_root(environ), BootClock(), environ))


def _parser() -> Parser:
    made = parser("agent", "Serve a machine's folder, as `launch` has filled it; not for people.")
    made.add_argument("folder", metavar="FOLDER")
    return made
