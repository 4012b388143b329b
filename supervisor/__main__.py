"""``python -m supervisor``: the door of the command line, with nothing behind it but the standard library."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line with ``sys.argv`` and return its exit code; ``cli`` turns a person's errors into two lines."""
    if sys.version_info < (3, 11):  # noqa: UP036  a bare clone is started by whatever python3 is there
        sys.stderr.write("error: training-supervisor needs Python 3.11 or newer\n")
        sys.stderr.write("  try: python3.11 -m supervisor (or 3.12, 3.13) with the same arguments\n")
        return 3
    from supervisor.cli import main as command_line

    return command_line()


if __name__ == "__main__":
    raise SystemExit(main())
