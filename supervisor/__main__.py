"""``python -m supervisor``: the door of the command line, with nothing behind it but the standard library."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line with ``sys.argv`` and return its exit code; ``cli`` turns a person's errors into two lines."""
    if sys.version_info < (3, 11):  # noqa: UP036  a bare clone is started by whatever python3 is there
        sys.stderr.write("error: training-supervisor needs Python 3.11 or newer\n")
        sys.stderr.write("  try: python3.11 -m supervisor (or 3.12, 3.13) with the same arguments\n")
        return 3
    if not __package__:
        _import_from_parent()
    if not _is_whole() and sys.argv[1:2] != ["doctor"]:
        return 3
    from supervisor.cli import main as command_line

    return command_line()


def _is_whole() -> bool:
    """Return True if ``supervisor/__init__.py`` is this product's. Otherwise print two lines with the repair."""
    import supervisor
    from supervisor import namesake

    told = namesake.broken(ours=hasattr(supervisor, "__version__"))
    if told:
        sys.stderr.write(f"error: {told[0]}\n  try: {told[1]}\n")
    return told is None


def _import_from_parent() -> None:
    """Make the package importable where its folder itself was run: ``python3 /path/to/clone/supervisor``."""
    import os

    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  nothing else is loaded yet
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != folder]  # noqa: PTH100
    sys.path.insert(0, os.path.dirname(folder))  # noqa: PTH120


if __name__ == "__main__":
    raise SystemExit(main())
