"""doctor: can a run live here? Each finding in one line, with what to do about it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING

from supervisor import namesake
from supervisor.cli.calling import example_script
from supervisor.cli.finding import option, where
from supervisor.cli.options import Parser, parser
from supervisor.core import program
from supervisor.core.errors import FAILED_PRECHECKS, UserError
from supervisor.core.finding import Finding
from supervisor.core.spoken import duration
from supervisor.engine import accelerators
from supervisor.views.status import next_commands
from supervisor.views.words import size
from supervisor.views.wrapping import GREEN, RED, YELLOW, painted, show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from supervisor.core.ports import Platform

TRIED = ((3, 11), (3, 13))
DRIVER_WAIT_S = 15.0
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "numpy")
COLOURS = {"ok": GREEN, "warning": YELLOW, "problem": RED}
MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "problem "}


def run(arguments: Sequence[str]) -> int:
    """Check everything and print the findings."""
    options = _parser().parse_args(arguments)
    program.set_about(option=option(options))
    if options.key:
        return _print_key()
    found = list(_findings(options))
    problems = [each for each in found if each.level == "problem"]
    if options.json:
        print(json.dumps({"schema": 1, "ok": not problems, "findings": [asdict(each) for each in found]}))
    else:
        for each in found:
            show(
                f"{painted(MARKS[each.level], COLOURS[each.level], sys.stdout)}{each.about}: {each.words}"
                + (f"\n        -> {program.expanded(each.hint)}" if each.hint else "")
            )
        if problems:
            show("when the problems are solved, look again:")
        show("\n".join(next_commands([_again(options) if problems else _start(options)])))
    return FAILED_PRECHECKS if problems else 0


def _print_key() -> int:
    """Print the user's key as the one line that another machine or notebook needs. Raises UserError where there is none."""
    from supervisor.engine import user_key

    key = user_key.read_or_make(os.environ)
    if not key:
        words = f"this machine has no key: {user_key.place(os.environ)} is not this user's, or cannot be written"
        raise UserError(words, "make its folder writable, or set XDG_STATE_HOME to one that is", FAILED_PRECHECKS)
    in_notebook = "JPY_PARENT_PID" in os.environ or "COLAB_RELEASE_TAG" in os.environ
    print(f"{'%env' if in_notebook else 'export'} {user_key.VARIABLE}={key}")
    return 0


def _findings(options: Namespace) -> Iterator[Finding]:
    yield _python()
    yield from _namesake()
    own = _own_packages()
    yield own
    yield from _machine()
    if own.level == "problem":
        return  # without them no store can be opened
    from supervisor import wiring
    from supervisor.engine import checkup
    from supervisor.engine.clock import BootClock

    clock = BootClock()
    platform = wiring.find_platform(os.environ, clock.now())
    yield from _platform(platform, where(options))
    try:
        store = wiring.open_store(where(options))
    except UserError as error:
        yield Finding("store", "problem", error.what, error.hint)
    else:
        yield from checkup.store(store, clock, platform.prior_life_s, Event().wait)
    yield from checkup.local(wiring.local_root(os.environ))
    yield from _leftovers()
    yield checkup.time(clock.now())


def _leftovers() -> Iterator[Finding]:
    """Yield what `clean` would free; nothing where there is nothing to free."""
    from supervisor.cli.clean import places_of
    from supervisor.engine import cleaning
    from supervisor.engine.ticking import told_every

    def say(words: str) -> None:
        show(words, sys.stderr)

    with told_every(say, lambda seconds: f"looking at what could be removed, {seconds:.0f} s so far"):
        going = [each for each in cleaning.found(places_of(os.environ), everything=False) if not each.keeps]
    if going:
        words = f"{size(sum(each.bytes for each in going))} could be freed: environments of jobs, downloads, what runs left here"
        yield Finding(
            "leftovers",
            "ok",
            words,
            "`clean --dry-run` lists them, and `clean` removes them after asking; runs in stores stay",
        )


def _python() -> Finding:
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if TRIED[0] <= sys.version_info[:2] <= TRIED[1]:
        return Finding("python", "ok", version)
    return Finding(
        "python", "warning", f"{version} is newer than those this was tried with", "use 3.11 to 3.13 if it fails"
    )


def _namesake() -> Iterator[Finding]:
    """Yield what supervisord, whose package has our name, does to this environment; nothing where it is not here."""
    import supervisor

    if broken := namesake.broken(ours=hasattr(supervisor, "__version__")):
        yield Finding("supervisord", "problem", *broken)
    elif shared := namesake.shared() or namesake.elsewhere(sys.path):
        yield Finding("supervisord", "warning", *shared)


def _own_packages() -> Finding:
    from supervisor.bootstrap import ensure

    try:
        folder = ensure()
    except UserError as error:
        return Finding("own packages", "problem", error.what, error.hint)
    return Finding("own packages", "ok", f"in {folder}" if folder else "found among this Python's packages")


def _machine() -> Iterator[Finding]:
    from supervisor.environments import capture
    from supervisor.wiring import CHECKOUT

    home = CHECKOUT / ".supervisor"
    try:
        found = capture.found(capture.interpreter(sys.executable, home, os.environ), os.environ)
    except OSError as error:
        words = f"{error.filename} cannot be written: {error.strerror}"
        yield Finding("machine", "warning", words, "make the checkout writable; environments are made in it")
        return
    yield Finding(
        "machine",
        "ok",
        f"{found.cores} cores, {found.ram_bytes / 2**30:.0f} GiB of memory, {found.cpu or found.system}",
    )
    yield _accelerator(found.driver)
    there = [f"{name} {found.distributions[name]}" for name in FRAMEWORKS if name in found.distributions]
    yield Finding("frameworks", "ok", ", ".join(there) or "none; what a script asks for is installed at its start")


def _accelerator(driver: str) -> Finding:
    seen = accelerators.seen_within(DRIVER_WAIT_S, os.environ)
    if seen is None:
        words = f"the accelerator's driver does not answer within {duration(DRIVER_WAIT_S)}"
        return Finding("accelerator", "warning", words, "start the machine anew; `nvidia-smi` hangs as well then")
    if seen.words:
        return Finding("accelerator", "ok", f"{seen.words}, driver {driver}" if driver else seen.words)
    return Finding(
        "accelerator", "warning", "none found", "training runs on the CPU; on Colab: Runtime, Change runtime type"
    )


def _platform(platform: Platform, store: str) -> Iterator[Finding]:
    yield Finding("platform", "ok", f"{platform.name}: {platform.title}; runs are kept in {store}", platform.advice)
    life = platform.lifetime or (platform.asked() if platform.asked else None)
    if life is None:
        yield Finding("lifetime", "ok", "no limit is known; --budget TIME sets one")
    else:
        left_s = max(0.0, life.seconds - platform.age_s)
        words = f"{duration(platform.age_s)} old, expected to end in {duration(left_s)}"
        hint = "" if life.hard else "a planning figure, not a promise; --budget TIME changes it"
        yield Finding("lifetime", "ok", words, hint)
    yield Finding("notice", "ok", platform.notice or "none is given before this machine ends")


def _again(options: Namespace) -> str:
    return program.line("doctor", option=option(options))


def _start(options: Namespace) -> str:
    return program.line("start", example_script(), option=option(options))


def _parser() -> Parser:
    made = parser("doctor", "Can a run live here? Each finding with what to do; exit code 4 if a run could not.")
    made.add_argument("--json", action="store_true", help="as one JSON object")
    made.add_argument(
        "--key",
        action="store_true",
        help="print the secret line that lets another machine believe the packages this one keeps in a store",
    )
    return made
