"""The old place of ``supervisor.cli.notebook.detached``: a notebook of an older version starts it by this name."""

import sys

from supervisor.cli.notebook.detached import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
