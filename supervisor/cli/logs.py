"""logs [RUN]: what the trainer printed, over all its machines; or with --steps the joined step log."""

from __future__ import annotations

import json
import sys
from codecs import getincrementaldecoder
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from supervisor.cli.finding import NoSuchRunError, StoreAwayError, living_here, one_run, opened, option, told
from supervisor.cli.options import Parser, add_run, count, parser
from supervisor.core import program
from supervisor.core.ports import StoreError
from supervisor.core.shown import shown_output
from supervisor.views import wrapping
from supervisor.views.status import next_commands
from supervisor.views.table import rows
from supervisor.views.words import number

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Sequence

    from supervisor.core.ports import Store
    from supervisor.engine.overview import Overview
    from supervisor.engine.place import RunPlace
    from supervisor.engine.printed import Part, Printed
    from supervisor.engine.runs import Run

_DECODER = getincrementaldecoder("utf-8")
FILE_EVERY_S = 0.2
STORE_EVERY_S = 5.0


def run(arguments: Sequence[str]) -> int:
    """Print the output, or the step log."""
    return told(_parser().parse_args(arguments), _from_store, _from_here)


def _from_store(options: Namespace) -> int:
    with opened(options) as store:
        from supervisor.engine import catalogue, overview
        from supervisor.engine.clock import BootClock
        from supervisor.engine.printed import Printed

        place, record = one_run(store, options, options.run, "logs")
        if options.steps:
            over = partial(_is_over, store, place, record)
            log = catalogue.step_log(store, place)
            _print_steps(log.rows, place.name, over, options)
            sys.stdout.flush()
            for gap in log.gaps:
                wrapping.show(f"{place.name}: {gap}", sys.stderr)
            return 0
        show = _Writer(raw=options.raw)
        printed = Printed(store, place)
        chosen = {"session": options.session, "attempt": options.attempt}
        if options.follow:
            _follow(lambda: overview.look(store, place, record, BootClock().now()), printed, show, chosen)
        else:
            show(printed.new(**chosen))
    if not show.anything:
        nexts = next_commands([program.of_run("status", place.name, option=option(options))])
        wrapping.show("\n".join([_nothing(place.name, chosen), *nexts]), sys.stderr)
    return 0


def _from_here(options: Namespace, error: StoreAwayError | NoSuchRunError) -> int:
    """Print what the trainer of the session on this machine printed. Without one, or for the step log, raise the error."""
    from supervisor.engine.printed import PrintedHere

    here = living_here(options, options.run, error)
    if options.steps:
        raise error
    wrapping.show(f"{error.what}; this is what its session on this machine printed", sys.stderr)
    show, printed, pause = _Writer(raw=options.raw), PrintedHere(here.rank, here.folder), Event()
    while options.follow and here.lives:
        show(printed.new(options.attempt))
        pause.wait(FILE_EVERY_S)
    show(printed.new(options.attempt))
    return 0


class _Writer:
    """Writes parts to stdout, with a line before the second and every later one."""

    def __init__(self, *, raw: bool = False) -> None:
        self.anything = False
        self._raw = raw and not sys.stdout.isatty()
        self._decoder = _DECODER("replace")
        self._part: Part | None = None
        self._ended = True

    def __call__(self, texts: Iterable[tuple[Part, bytes]]) -> None:
        for part, text in texts:
            if part != self._part:
                self._decoder.reset()
            if part != self._part and self.anything:
                head = f"--- session {part.rank.epoch}, attempt {part.attempt}\n"
                self._write((b"" if self._ended else b"\n") + head.encode())
            self._part, self.anything = part, True
            self._write(text)
        sys.stdout.buffer.flush()

    def _write(self, text: bytes) -> None:
        sys.stdout.buffer.write(text if self._raw else shown_output(self._decoder.decode(text)).encode())
        self._ended = text.endswith(b"\n")


def _follow(look: Callable[[], Overview], printed: Printed, show: _Writer, chosen: dict[str, int | None]) -> None:
    """Print until the run ends. A session on this machine is read from its local file, others as pieces arrive."""
    from supervisor.engine.clock import BootClock

    pause, clock = Event(), BootClock()
    seen: Overview | None = None
    while True:
        try:
            seen = look()
            show(printed.new(**chosen))
        except StoreError:
            if seen is None or not seen.alive or _gone(seen):
                raise  # a session that lives here is read from its own files until the store answers again
        if seen.over:
            return
        until_s = clock.now().mono_s + STORE_EVERY_S
        while clock.now().mono_s < until_s:
            pause.wait(FILE_EVERY_S)
            if _gone(seen):
                break
            if seen.alive and seen.rank is not None and set(chosen.values()) == {None}:
                show(printed.new_here(seen.rank))


def _gone(seen: Overview) -> bool:
    """Say whether a session that lived here has ended since."""
    from supervisor.engine import identity

    return bool(seen.alive) and identity.alive((seen.claim or {}).get("machine", {})) is False


def _is_over(store: Store, place: RunPlace, record: Run) -> bool:
    from supervisor.engine import overview
    from supervisor.engine.clock import BootClock

    return overview.look(store, place, record, BootClock().now()).over


def _print_steps(known: Sequence[dict[str, Any]], name: str, over: Callable[[], bool], options: Namespace) -> None:
    if options.json:
        for row in known:
            print(json.dumps(row))
        return
    if not known and over():
        wrapping.show(f"{name}: the script logged nothing: rows come from run.log(…) of an attached script")
        return
    if not known:
        wrapping.show(f"{name}: no step is logged in the store yet; rows come with each checkpoint")
        return
    heads = ("step", *dict.fromkeys(key for row in known for key in row if key != "step"))
    print("\n".join(rows(heads, ([number(row.get(head, "")) for head in heads] for row in known))))


def _nothing(name: str, chosen: dict[str, int | None]) -> str:
    named = " and ".join(f"{key} {value}" for key, value in chosen.items() if value is not None)
    return f"{name}: nothing was printed" + (f" in {named}" if named else " yet")


def _parser() -> Parser:
    made = parser("logs", "What the trainer printed, over all machines.")
    add_run(made)
    made.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    made.add_argument("--attempt", type=count, metavar="N", help="only this life of the trainer (in each session)")
    made.add_argument("--session", type=count, metavar="N", help="only this session")
    made.add_argument("--steps", action="store_true", help="the step log, joined over all machines")
    made.add_argument("--raw", action="store_true", help="into a pipe or file: every byte as it was printed")
    made.add_argument("--json", action="store_true", help="with --steps: as JSON lines")
    return made
