"""A program in the supervisor's place: it writes one file into the store that it was given, and ends as its job says.

``--end CODE``: with this exit code; ``--kill``: by SIGKILL, with the shell around it; ``--wait FILE``: when that is there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

LOOK_EVERY_S = 0.01


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("script")
    parser.add_argument("--store")
    parser.add_argument("--name")
    parser.add_argument("--takeover", action="store_true")
    parser.add_argument("--end", type=int, default=0)
    parser.add_argument("--wait")
    parser.add_argument("--kill", action="store_true")
    at = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:at])
    store = Path(options.store.removeprefix("relay:")) / options.name
    store.mkdir(parents=True, exist_ok=True)
    told = {name: value for name, value in sorted(os.environ.items()) if name.startswith("SUPERVISOR_RUN_")}
    number = len(list(store.iterdir())) + 1
    (store / ".tmp-half").write_text(f"{sys.argv[at + 1 :]}\n{told}\nnice {os.nice(0)}\n{Path.cwd()}")
    (store / ".tmp-half").rename(store / f"run ({number}).json")
    while options.wait and not Path(options.wait).exists():
        time.sleep(LOOK_EVERY_S)
    if options.kill:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return options.end


if __name__ == "__main__":
    raise SystemExit(main())
