"""clean: remove the environments, caches and leftovers that this product made on this machine; runs in stores stay."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli import asking
from supervisor.cli.options import Parser, parser
from supervisor.core.errors import FAILED
from supervisor.views.table import rows
from supervisor.views.words import size
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.engine.cleaning import Item, Places

HEADS = ("size", "what", "where")


def run(arguments: Sequence[str]) -> int:
    """List what may go, ask, and remove it."""
    options = _parser().parse_args(arguments)
    from supervisor.engine import cleaning
    from supervisor.engine.ticking import told_every

    places = places_of(os.environ)
    with told_every(_say, lambda seconds: f"looking at what is here, {seconds:.0f} s so far"):
        found = cleaning.found(places, everything=options.all)
    going, staying = [each for each in found if not each.keeps], [each for each in found if each.keeps]
    if found:
        show("\n".join(_listed(going, staying)))
    if not going:
        show("nothing to remove")
        _remove_empty(places, everything=options.all)
        return 0
    total = sum(each.bytes for each in going)
    show(f"{size(total)} in all; runs and checkpoints in stores stay")
    if options.dry_run:
        return 0
    if not asking.agreed(f"Remove these {len(going)}?", yes=options.yes, what="what is listed"):
        show("nothing was removed")
        return FAILED
    return _removed(going, places, everything=options.all)


def places_of(environ: Mapping[str, str]) -> Places:
    """Return all places of this machine into which the product, its example and its launches write beside the stores."""
    from supervisor import wiring
    from supervisor.bootstrap import CHECKOUT, private_homes
    from supervisor.engine.cleaning import Places
    from supervisor.fleet.lately import state_root

    home = environ.get("HOME") or str(Path.home())
    cache = Path(environ.get("XDG_CACHE_HOME") or f"{home}/.cache")
    shared = Path(tempfile.gettempdir())
    plates = Path(environ.get("HYPERLPR_CACHE") or cache / "hyperlpr_example")
    machines = Path(environ.get("XDG_DATA_HOME") or f"{home}/.local/share") / "training-supervisor"
    return Places(
        homes=private_homes(CHECKOUT, environ),
        runs=(wiring.local_root(environ), cache / "training-supervisor" / "runs"),
        caches={
            plates: "the example's plates and weights",
            shared / f"hyperlpr_example-{os.getuid()}": "the example's plates and weights",
        },
        launches={
            state_root(environ): "what launch remembers of its machines",
            machines: "blank machines of launch --on local",
            shared / f"training-supervisor-{os.getuid()}": "connections of launch --on ssh",
        },
        serving=_serving,
    )


def _serving(folder: Path) -> str:
    """Return the machine that a launch whose journal lies in ``folder`` still has; "" where there is none."""
    from supervisor.fleet import controller

    for journal in sorted(folder.glob(f"fleet/*/{controller.JOURNAL}")):
        try:
            machine = controller.folded(journal).machine
        except (OSError, ValueError, KeyError):
            return f"of {journal.parent.name}, whose journal cannot be read,"
        if machine is not None:
            return machine.endpoint
    return ""


def _removed(going: Sequence[Item], places: Places, *, everything: bool) -> int:
    from supervisor.engine import cleaning
    from supervisor.engine.ticking import told_every

    freed, left, now = 0, [], [""]
    with told_every(_say, lambda seconds: f"removing {now[0]}, {seconds:.0f} s so far"):
        # the supervisor's own packages last, because this very process may still need them
        for item in sorted(going, key=lambda each: each.kind == "tool"):
            now[0] = str(item.path)
            if cleaning.remove(item):
                freed += item.bytes
            else:
                left.append(item)
    _remove_empty(places, everything=everything)
    show(f"removed {len(going) - len(left)} of {len(going)}, {size(freed)} freed")
    for item in left:
        show(f"  stays, because something began to use it or it cannot be written: {item.path}")
    return FAILED if left else 0


def _remove_empty(places: Places, *, everything: bool) -> None:
    from supervisor.engine import cleaning

    folders = [home / "envs" for home in places.homes]
    if everything:
        folders += [*places.runs, *(folder.parent for folder in places.runs), *places.homes, *places.launches]
    cleaning.remove_empty(
        folder for folder in folders if "supervisor" in folder.name or folder.name in {"envs", "runs"}
    )
    home = Path(os.environ.get("HOME") or Path.home())
    for folder in places.launches if everything else ():
        for above in (each for each in folder.parents if home in each.parents):
            with suppress(OSError):  # it is not empty: others use it
                above.rmdir()


def _listed(going: Sequence[Item], staying: Sequence[Item]) -> list[str]:
    lines = rows(HEADS, [(size(each.bytes), each.words, str(each.path)) for each in going]) if going else []
    return [*lines, *(f"stays: {each.path} ({size(each.bytes)}): {each.keeps}" for each in staying)]


def _say(words: str) -> None:
    show(words, sys.stderr)


def _parser() -> Parser:
    made = parser(
        "clean",
        "Remove the private environments, caches and leftovers of runs that are on this machine. What a run uses stays; "
        "so do runs in stores: `rm` removes one.",
    )
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    made.add_argument(
        "--all", action="store_true",
        help="also the supervisor's own packages and tools, what launch remembers, and work that is in no store",
    )  # fmt: skip
    return made
