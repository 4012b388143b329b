"""The choice of the file that a script resumes from: by name, then size, then time. Files of one save stay together.

A *unit* is what a script is given as one: a file, or a folder that a framework makes of many files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.core import naming
from supervisor.core.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SAVE_NS = 2_000_000_000  # files that follow each other so closely may be of one save
STALE_SAVES = 2  # of another file, since this one was written: then it belongs to an earlier training
WHOLE, PLAIN, PART, BESIDE = 3, 2, 1, 0  # how much of the state a name promises

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
WHOLE_WORDS = frozenset(
    {"last", "latest", "newest", "current", "checkpoint", "checkpoints", "ckpt", "chkpt", "resume", "snapshot"}
)
_LAST = frozenset({"last", "latest", "newest", "current"})
PART_WORDS = frozenset(
    {"best", "ema", "swa", "averaged", "avg", "teacher", "final", "weights", "lora", "adapter", "backbone"}
)
_BESIDE = frozenset(
    {
        "optim", "optimizer", "optimizers", "opt", "scheduler", "sched", "scaler", "rng", "replay", "buffer", "vecnormalize",
        "discriminator", "disc", "critic", "tokenizer", "vocab", "vocabulary", "config", "args", "arguments", "hparams",
        "labels", "onnx", "scripted", "traced", "torchscript", "target", "embeddings", "predictions", "meta",
    }
)  # fmt: skip
_RECORDS = frozenset(
    {"stats", "metrics", "history", "results", "log", "logs", "loss", "losses", "acc", "accuracy", "curve"}
)
_TABLES = re.compile(r"(?i).*\.(npy|npz|pkl|pickle|joblib|pt)")  # what such records are written as, beside states
_ABOVE = frozenset({"best", "ema", "swa", "optimizer", "optim"})  # of the folders above
_NETS = re.compile(r"(?:^|[^A-Za-z])(?:net_?)?([A-Z])(?=[^A-Za-z]|$)")  # netG and netD, or G and D
_ALONE = re.compile(
    r"(?i).*\.(pt|pth|ckpt|tar|pkl|pickle|zip|h5|hdf5|keras|npz|npy|joblib|cbm|ubj|xgb|lgb|model|params|msgpack)"
)
_NOT_STATE = re.compile(
    r"(?i).*\.(txt|log|jsonl?|ya?ml|csv|tsv|png|jpe?g|gif|svg|pdf|html|mp4|py|md|ini|toml|onnx|out|err)|.*tfevents.*"
)
_MARKERS = frozenset(
    {"config.json", "trainer_state.json", "saved_model.pb", ".metadata", "_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt",
     "adapter_config.json", "model.safetensors", "pytorch_model.bin", "random_states_0.pkl", "saved_model.json"}
)  # fmt: skip


_SIGNS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Found:
    """One file: its length and time."""

    bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen files: a path for each pattern of ``{checkpoint:PATTERN}`` ("" without one), and the rule that chose."""

    paths: Mapping[str, str]
    rule: str

    @property
    def named(self) -> str:
        """Its paths, as they are said."""
        return " and ".join(dict.fromkeys(self.paths.values()))


@dataclass(frozen=True, slots=True)
class _Unit:
    path: str
    promise: int
    word: str
    bytes: int
    mtime_ns: int
    told: int  # its place among what the framework told of, -1 where it told nothing


def ranked(files: Mapping[str, Found], told: Sequence[str] = ()) -> list[Choice]:
    """Return the units among the files, the one to resume from first; then the newest of each other kind, then older ones.

    ``told``: files and folders that the script's framework reported as saved, in that order.
    """
    units = _units(files, told)
    first = _first(units)
    if first is None:
        return []
    kinds: dict[str, list[_Unit]] = {}
    for unit in sorted(units, key=_age_key, reverse=True):
        kinds.setdefault(naming.shape_of(unit.path), []).append(unit)
    newest = {id(kind[0]) for kind in kinds.values()}
    order = sorted(units, key=lambda unit: (unit is first, id(unit) in newest, *_key(unit)), reverse=True)
    return [Choice({"": unit.path}, _rule(unit, units)) for unit in order]


def choices(files: Mapping[str, Found], patterns: Sequence[str], recorded: str = "") -> list[Choice]:
    """Return what ``--resume-args`` may be filled with, best first; nothing where a pattern fits no file.

    ``recorded``: the checkpoint that was chosen when the files were taken. It stands unless its name promises a part only.
    """
    alone = ranked(files)
    if recorded and _promise(recorded, files)[0] >= PLAIN:
        same = [each for each in alone if each.paths[""] == recorded]
        alone = [
            *(same or [Choice({"": recorded}, "it was the newest")]),
            *(each for each in alone if each not in same),
        ]
    wanted = [pattern for pattern in dict.fromkeys(patterns) if pattern]
    if not wanted:
        return alone
    found = _together(files, wanted)
    if "" not in patterns:
        return found
    return [Choice({**each.paths, "": alone[0].paths[""]}, each.rule) for each in found if alone]


def matches(path: str, pattern: str) -> bool:
    """Say whether a path, or where the pattern has no "/" its name, fits a pattern of ``*``, ``?`` and ``[…]``."""
    text = path if "/" in pattern else path.rpartition("/")[2]
    return re.fullmatch(_expression(pattern), text) is not None


def _expression(pattern: str) -> str:
    cut = re.split(r"(\*\*|\*|\?|\[[^\]]+\])", pattern)
    return "".join(_SIGNS.get(part) or (_set(part) if part.startswith("[") else re.escape(part)) for part in cut)


def _set(part: str) -> str:
    inside = part[1:-1].replace("\\", "").replace("[", r"\[")
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def _together(files: Mapping[str, Found], patterns: Sequence[str]) -> list[Choice]:
    """Return one file for each pattern, all of one save: those of one number, newest first; else the newest of each."""
    states = [path for path in files if not _no_state(path)]
    fitting = {}
    for pattern in patterns:
        exact = [path for path in states if matches(path, pattern)]
        paths = exact or [path for path in states if matches(path.lower(), pattern.lower())]
        fitting[pattern] = sorted(paths, key=lambda path: _age_of(path, files))
    if not all(fitting.values()):
        return []
    found = []
    for path in reversed(fitting[patterns[0]]):
        step = naming.step_of(path)
        same = {
            pattern: next((each for each in reversed(paths) if naming.step_of(each) == step), "")
            for pattern, paths in fitting.items()
        }
        if step is not None and all(same.values()):
            found.append(Choice({**same, patterns[0]: path}, f"the newest of one save, number {step:,}"))
    return found or [Choice({pattern: paths[-1] for pattern, paths in fitting.items()}, "the newest of each pattern")]


def _age_of(path: str, files: Mapping[str, Found]) -> tuple[object, ...]:
    return (
        _promise(path, files)[0] != PART,
        files[path].mtime_ns // SAVE_NS,
        naming.step_of(path) or 0,
        files[path].mtime_ns,
    )


def _units(files: Mapping[str, Found], told: Sequence[str]) -> list[_Unit]:
    places = {path: place for place, path in enumerate(told)}
    trusted = [
        path for path in told if any(naming.within(path, {each}) or naming.within(each, {path}) for each in files)
    ]
    grouped: dict[str, list[str]] = {}
    for path in files:
        if trusted and not naming.within(path, trusted):
            continue
        grouped.setdefault(_whole(path, files, trusted), []).append(path)
    made = []
    for whole, parts in grouped.items():
        promise, word = _promise(whole, files)
        newest = max(files[path].mtime_ns for path in parts)
        at = max(
            (places[each] for each in trusted if naming.within(each, {whole}) or naming.within(whole, {each})),
            default=-1,
        )
        made.append(_Unit(whole, promise, word, sum(files[path].bytes for path in parts), newest, at))
    return made


def _whole(path: str, files: Mapping[str, Found], told: Iterable[str]) -> str:
    """Return the unit that a file belongs to: a folder whose name plainly says a step, or that is one by its content."""
    if above := naming.numbered_above(path):
        return naming.without_shard(above)
    for each in told:
        if each == path:
            return naming.without_shard(path)
        if path.startswith(f"{each}/"):
            return each
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if any(f"{folder}/{marker}" in files for marker in _MARKERS):
            return folder
    if naming.without_shard(path) != path or _ALONE.fullmatch(parts[-1]) or _no_state(path):
        return naming.without_shard(path)
    folder = path.rpartition("/")[0]
    alike = [each for each in files if each.startswith(f"{folder}/") and not _no_state(each)]
    return parts[0] if folder and len(alike) > 1 else path


def _promise(path: str, files: Mapping[str, Found]) -> tuple[int, str]:
    """Return how much of the state a name promises, and the word in it that says so."""
    name = path.rpartition("/")[2]
    if _no_state(path):
        return BESIDE, ""
    head, _, tail = name.partition(".")
    spelled = [word.lower() for word in (*_WORDS.findall(head), *_WORDS.findall(tail))]
    records = _RECORDS if _TABLES.fullmatch(name) else frozenset[str]()
    for words, promise in ((_BESIDE | records, BESIDE), (PART_WORDS, PART)):
        if word := next((each for each in spelled if each in words), ""):
            return promise, word
    if (net := _NETS.search(name)) and net[1] != "G" and _has_sibling(path, net, files):
        return BESIDE, net[0].strip("_-. ")
    above = [word.lower() for part in path.split("/")[:-1] for word in _WORDS.findall(part)]
    if word := next((each for each in above if each in _ABOVE), ""):
        return PART, word
    word = next((each for each in spelled if each in _LAST), "") or next(
        (each for each in spelled if each in WHOLE_WORDS), ""
    )
    return (WHOLE, word) if word else (PLAIN, "")


def is_part(path: str) -> bool:
    """Say whether a name is that of a best or averaged model. Not every save writes one."""
    return _promise(path, {})[0] == PART


def _has_sibling(path: str, net: re.Match[str], files: Mapping[str, Found]) -> bool:
    """Say whether a generator's file lies beside this one. A capital letter alone names no network."""
    folder, slash, name = path.rpartition("/")
    at = net.start(1)
    shape = naming.shape_of(f"{folder}{slash}{name[:at]}G{name[at + 1 :]}")
    return any(naming.shape_of(each) == shape for each in files)


def _no_state(path: str) -> bool:
    return _NOT_STATE.fullmatch(path.rpartition("/")[2]) is not None


def _first(units: Sequence[_Unit]) -> _Unit | None:
    """Return the unit to resume from. A name does not count for a file that an earlier training left."""
    fresh = [unit for unit in units if not _is_stale(unit, units)]
    return max(fresh or units, key=_key, default=None)


def _is_stale(unit: _Unit, units: Sequence[_Unit]) -> bool:
    if unit.promise < WHOLE:
        return False
    later: dict[str, int] = {}
    for other in units:
        if other.promise >= PLAIN and other.mtime_ns > unit.mtime_ns + SAVE_NS:
            shape = naming.shape_of(other.path)
            later[shape] = later.get(shape, 0) + 1
    own = naming.shape_of(unit.path)
    return any(count >= STALE_SAVES for shape, count in later.items() if shape != own)


def _key(unit: _Unit) -> tuple[object, ...]:
    """Order by name, then, within about one save, by number and size, else by time."""
    last = unit.word in _LAST
    step = naming.step_of(unit.path) or 0
    return (
        unit.promise,
        last,
        _plainly(unit.path),
        unit.told,
        unit.mtime_ns // SAVE_NS,
        step,
        unit.bytes,
        unit.mtime_ns,
    )


def _age_key(unit: _Unit) -> tuple[object, ...]:
    return (unit.told, unit.mtime_ns // SAVE_NS, naming.step_of(unit.path) or 0, unit.mtime_ns)


def _plainly(path: str) -> bool:
    told = naming.step_in(path.rpartition("/")[2])
    return told is not None and told[0] == naming.NUMBERED


def _rule(unit: _Unit, units: Sequence[_Unit]) -> str:
    """Return the words by which a user sees why."""
    if len(units) == 1:
        return "the only one"
    if unit.promise == WHOLE and unit.word in _LAST:
        return f"its name says {unit.word!r}"
    alike = [each for each in units if naming.shape_of(each.path) == naming.shape_of(unit.path)]
    if len(alike) > 1:
        newest = max(alike, key=_age_key) is unit
        return f"the newest of {len(alike):,} like it" if newest else f"an older one of {len(alike):,} like it"
    if unit.promise == WHOLE:
        return f"its name says {unit.word!r}"
    if unit.promise == PLAIN:
        return (
            "by its name none of the others is the whole state"
            if max(units, key=_key) is unit
            else "by its size and time"
        )
    return f"its name says {unit.word!r}: maybe not the whole state" if unit.word else "by its size and time"
