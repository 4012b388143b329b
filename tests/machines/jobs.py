"""What the machines run, and how often they save."""

from pathlib import Path

SLOW_TOY = Path(__file__).with_name("held.py")
AS_TOY = ("--name", "toy")

JOB = ("--steps", "500", "--step-ms", "10", "--state-mb", "0.3")
LONG = ("--steps", "1200", "--step-ms", "10", "--state-mb", "0.1")  # so long that who sees the others last still runs
OFTEN = (
    "--save-every", "500ms", "--settle", "500ms", "--no-install",
    "--keep-last", "20",  # because each removal waits for the drive
)  # fmt: skip
