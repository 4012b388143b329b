"""Old import path of ``supervisor.cli.notebook.detached``, used by notebooks of an older version."""

import sys

from supervisor.cli.notebook.detached import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
