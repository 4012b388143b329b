"""The verdict of a rehearsal in words: bit-exact, or from which step on what differs and what that most likely means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

PATHS_SHOWN = 4
FILES = "files"  # what is compared of a script that saves by itself
# What people call the attached objects, so that a path can be named by what it is.
_KINDS = (
    ("data order", ("data", "sampler", "loader", "order", "batches", "position", "dataset")),
    ("random numbers", ("rng", "random", "generator")),
    ("optimizer", ("opt", "adam", "sgd")),
    ("learning-rate schedule", ("sched", "lr")),
    ("loss scaling", ("scaler",)),
    (FILES, (FILES,)),
    ("callbacks", ("callback", "stopping", "metric", "best", "history")),
    ("weights", ("model", "net", "weights", "ema")),
)
BEGINS_AGAIN = (
    "it read none of them before its first step, or did all of its steps again: after a death all work is lost",
    'have it go on: rehearse SCRIPT --resume-args "--resume {checkpoint}", with the option that the script has for it',
)
_ASKED_FOR = ("weights", "optimizer", "random numbers", "data order", "callbacks")  # said also where there is none


class Comparison(Protocol):
    """What was compared (``engine.rehearsal.Comparison``)."""

    @property
    def exact(self) -> bool: ...
    @property
    def steps(self) -> tuple[int, int]: ...
    @property
    def attached(self) -> tuple[str, ...]: ...
    @property
    def generators(self) -> tuple[str, ...]: ...
    @property
    def differ(self) -> tuple[str, ...]: ...
    @property
    def row(self) -> int | None: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def measured(self) -> tuple[str, ...]: ...
    @property
    def ahead(self) -> tuple[str, ...]: ...
    @property
    def resumed(self) -> tuple[int, ...]: ...
    @property
    def anew(self) -> tuple[int, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def files(self) -> int: ...


def lines(found: Comparison) -> list[str]:
    """Return the verdict, and under it what led to it."""
    resumed = ", ".join(f"{step:,}" for step in found.resumed) or "nothing"
    went_on = "files were put back of" if found.anew else "the killed run went on from"
    under = [*parts(found), f"  compared at step {found.steps[0]:,}; {went_on}: {resumed}"]
    if found.measured:
        under.append(f"  not compared, because they hold measured times: {', '.join(found.measured)}")
    if found.ahead:
        under.append(f"  compared by what the steps took from it, because it reads ahead: {_some(found.ahead)}")
    if found.anew:
        at = ", ".join(f"{step:,}" for step in found.anew)
        return [
            f"resume fails: the script begins at its first step again; put back were the files of: {at}",
            *(f"  {words}" for words in BEGINS_AGAIN),
            *under,
        ]
    if found.exact:
        return [f"resume is bit-exact: {_equal(found)} of the run that nothing happened to", *under]
    return [f"resume differs{_since(found)}: {_what(found)}", *(f"  {words}" for words in reasons(found)), *under]


def unprotected(paths: Sequence[str]) -> list[str]:
    """Return a line that names what was saved outside the copy of the working folder."""
    return [f"  saved outside the copy, into your own folders: {_some(paths)}"] if paths else []


def parts(found: Comparison) -> list[str]:
    """Return one line for each part of the state: is it the same, and what is in it."""
    names: dict[str, list[str]] = {} if found.attached == (FILES,) else {kind: [] for kind in _ASKED_FOR}
    for name in found.attached:
        names.setdefault(_kind(name), []).append(name)
    if found.generators:
        names.setdefault("random numbers", []).extend(found.generators)
    differ: dict[str, list[str]] = {}
    for path in found.differ:
        differ.setdefault(_kind(path), []).append(path)
    told = {
        kind: ("differs", _some(differ[kind])) if kind in differ else ("same" if each else "none", _some(each))
        for kind, each in names.items()
    }
    log = (
        (("same" if found.rows else "none"), "")
        if found.row is None
        else ("differs", f"from step {found.row:,}: {_some(found.columns)}")
    )
    return [f"  {kind:24}{word:9}{what}".rstrip() for kind, (word, what) in {**told, "step log": log}.items()]


def reasons(found: Comparison) -> list[str]:
    """Return what the difference most likely means and what to do."""
    words = []
    first = min(found.resumed, default=None)
    if found.row is not None and (first is None or found.row < first):
        words.append("it differs before anything was killed: the script does not do the same twice by itself")
        words.append("seed its random numbers, and switch off what is not deterministic (see the framework's guide)")
    elif found.row is not None:
        near = max(step for step in found.resumed if step <= found.row)
        where = "exactly where" if near == found.row else f"{found.row - near:,} steps after"
        words.append(f"it begins {where} the run was resumed: what the script keeps outside attach() began anew there")
    elif found.differ and found.rows:
        words.append("every logged value is the same; the state that differs does not show in them yet")
    if found.attached == (FILES,):
        words.append("it resumes from its own files: what it does not save there, or load from there, begins anew")
    elif _kind_of_any(found.attached, "data order") is None:
        words.append("no data order is attached: its position is lost at each resume; attach(…, data=YOUR_SAMPLER)")
    elif any(_kind(path) == "data order" for path in found.differ):
        words.append("its load_state_dict() does not bring back what its state_dict() gave")
    return words


def _equal(found: Comparison) -> str:
    if found.attached == (FILES,):
        return "its files and step log equal those" if found.rows else "its files equal those"
    return "state and step log equal those" if found.rows else "its state equals that"


def _since(found: Comparison) -> str:
    return f" from step {found.row:,}" if found.row is not None else f" at step {found.steps[1]:,}"


def _what(found: Comparison) -> str:
    if found.steps[0] != found.steps[1]:
        return f"it came to step {found.steps[1]:,} instead of {found.steps[0]:,}"
    groups: dict[str, list[str]] = {}
    for path in found.differ:
        groups.setdefault(_kind(path), []).append(path)
    order = [kind for kind, _ in _KINDS]
    named = sorted(groups.items(), key=lambda each: order.index(each[0]) if each[0] in order else len(order))
    parts = [f"{kind} ({_some(paths)})" for kind, paths in named]
    if found.columns:
        parts.append(f"logged {_some(found.columns)}")
    return ", ".join(parts)


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - PATHS_SHOWN} more" if len(paths) > PATHS_SHOWN else ""
    return f"{', '.join(paths[:PATHS_SHOWN])}{more}"


def _kind(path: str) -> str:
    name = path.partition(".")[0].lower()
    return next((kind for kind, stems in _KINDS if any(stem in name for stem in stems)), "state")


def _kind_of_any(names: Sequence[str], kind: str) -> str | None:
    return next((name for name in names if _kind(name) == kind), None)
