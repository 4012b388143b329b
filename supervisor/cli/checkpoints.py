"""checkpoints [RUN]: look after the checkpoints of a run: list, verify, export, pin, unpin, prune."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from supervisor.cli import trained
from supervisor.cli.finding import one_run, opened, option
from supervisor.cli.options import Parser, count, one_of, parser
from supervisor.core import program
from supervisor.core.checkpoint import Verdict
from supervisor.core.errors import FAILED, FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.ports import Taken
from supervisor.core.spelling import nearest
from supervisor.core.values import dataclass
from supervisor.views import checkpoints as view
from supervisor.views.status import next_commands
from supervisor.views.words import size
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.checkpoint import Found
    from supervisor.core.ports import Store
    from supervisor.engine.place import RunPlace
    from supervisor.engine.runs import Run

WORDS = {"list": 0, "verify": 0, "export": 2, "pin": 1, "unpin": 1, "prune": 0}
KEEP_DEFAULT = 3
ACTIONS = {
    "list": "each checkpoint: its size, what shows that it is safe, why it is kept",
    "verify": "read every byte again and compare its hash",
    "export STEP|latest DIR": "copy one into a new folder, as files that need no supervisor",
    "pin STEP": "keep this one for good",
    "unpin STEP": "let it go again as others do",
    "prune": "say which old ones would go; with --yes remove them",
}


@dataclass(frozen=True, slots=True)
class About:
    """What every action works with. ``local``: this machine's folder of the run; ``newest``: the K of retention."""

    store: Store
    place: RunPlace
    record: Run
    local: Path
    newest: int
    watched: tuple[str, ...]
    options: Namespace


def run(arguments: Sequence[str]) -> int:
    """Do one action; without a word for it, list."""
    options = _options(arguments)
    name, action, words = _understood(options.words)
    if options.form is not None:
        _check_form(options.form, name or options.named or "", action)
    with opened(options) as store:
        from supervisor import wiring
        from supervisor.engine import claims, retaining

        place, record = one_run(store, options, name or options.named, "checkpoints")
        known = claims.ranks(store, place)
        chosen = (claims.read_claim(store, place, known[-1]) if known else {}).get("options") or record.options
        newest = max(2, retaining.keep_last(chosen, KEEP_DEFAULT))
        local = wiring.local_root(os.environ) / record.id
        about = About(store, place, record, local, newest, retaining.watched(chosen), options)
        acts: dict[str, Callable[..., int]] = {
            "list": _list,
            "verify": _verify,
            "export": _export,
            "pin": _pin,
            "unpin": _unpin,
            "prune": _prune,
        }
        return acts[action](about, *words)


def _list(about: About) -> int:
    from supervisor.engine import catalogue
    from supervisor.engine.clock import BootClock

    found = catalogue.rows(about.store, about.place, about.local, about.newest, about.watched)
    if about.options.json:
        print(json.dumps([view.plain(row) for row in found]))
    elif not found:
        show(f"{about.place.name}: no checkpoint yet")
        _say_next(about, "status {run}")
    else:
        show("\n".join([*view.table(found, BootClock().now().wall_s), *view.legend(found)]))
        _say_next(about, "checkpoints {run} verify", "checkpoints {run} export latest DIR")
    return 0


def _verify(about: About) -> int:
    from supervisor.engine import catalogue, packed, receipts, telling
    from supervisor.engine.clock import BootClock

    seen: list[Found] = []
    plain: list[dict[str, Any]] = []
    pace = receipts.Pace(BootClock(), Event().wait)
    known = telling.told_of(about.store, about.place, catalogue.ids(about.store, about.place))
    for each in catalogue.judged(about.store, about.place, about.local):
        proved = receipts.Proved()
        if each.manifest and each.verdict is Verdict.WHOLE:
            told = known[each.id].evidence if each.id in known else ""
            proved = receipts.prove(about.store, about.place, each.manifest, told, pace)
        seen.append(each)
        plain.append(view.plain_verdict(each, proved.evidence or None))
        if not about.options.json:
            show(view.verdict(each, proved.evidence, proved.why))
    verdicts = {each.verdict for each in seen}
    gaps = catalogue.step_log(about.store, about.place).gaps
    for gap in gaps:
        show(f"step log: {gap}", sys.stderr if about.options.json else sys.stdout)
    if about.options.json:
        print(json.dumps(plain))
    else:
        show(f"{about.place.name}: {view.summary(seen)}")
        if newest := packed.among(seen):
            show(f"  {packed.way_out(about.store, about.place, newest)}")
        _say_next(about, *_after_verify(verdicts))
    if gaps or Verdict.BROKEN in verdicts:
        return FAILED
    return 0 if verdicts <= {Verdict.WHOLE} else FAILED_PRECHECKS


def _after_verify(verdicts: set[Verdict | None]) -> list[str]:
    return ["resume {run}", "checkpoints {run} export latest DIR"] if Verdict.WHOLE in verdicts else ["status {run}"]


def _export(about: About, which: str, folder: str) -> int:
    from supervisor.engine import catalogue, packed

    to = _new_folder(folder)
    wanted = _candidates(about, which)
    skipped: list[Found] = []
    for each in wanted:
        gaps: list[object] = []
        try:
            found = catalogue.export(about.store, about.place, each, to, gaps.append)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written: {error.strerror}", "name another folder, or make room"
            ) from error
        if found.verdict is Verdict.WHOLE:
            for passed in skipped:
                show(f"passed over: {view.verdict(passed)}")
            if newest := packed.among(skipped):
                show(packed.way_out(about.store, about.place, newest))
            show(f"exported {found.id} to {folder}, verified, with {catalogue.STEPS_FILE}")
            for gap in gaps:
                show(f"{catalogue.STEPS_FILE}: {gap}")
            if about.options.form:
                show(f"the model alone: {trained.write(about.options.form, to, Path(about.record.script))}")
            return 0
        skipped.append(found)
        if found.verdict not in {Verdict.BROKEN, Verdict.PACKED}:
            break  # an unreadable one may be whole: nothing older is taken for the latest
    newest = packed.among(skipped)
    hint = _other(about, which) if newest is None else packed.way_out(about.store, about.place, newest)
    raise UserError(f"nothing was exported: {'; '.join(map(view.verdict, skipped))}", hint, FAILED)


def _candidates(about: About, which: str) -> list[Found]:
    from supervisor.engine import checkpoints

    if which != "latest":
        return [_one(about, which)]
    every = sorted(checkpoints.standing(about.store, about.place), key=lambda each: (each.id, each.path), reverse=True)
    if not every:
        raise UsageError(f"{about.place.name} has no checkpoint yet", _command(about, "status {run}"))
    return every


def _one(about: About, step: str) -> Found:
    from supervisor.engine import catalogue

    found = catalogue.newest_of_step(about.store, about.place, _number(step))
    if found is None:
        raise UsageError(
            f"{about.place.name} has no checkpoint of step {step}", _command(about, "checkpoints {run} list")
        )
    return found


def _number(step: str) -> int:
    return count(step.replace(",", "").removeprefix("step-"))


def _pin(about: About, step: str) -> int:
    from supervisor.engine import retaining

    found = _one(about, step)
    try:
        retaining.pin(about.store, about.place, found.id)
    except Taken:
        show(f"{found.id} was pinned already")
    else:
        show(f"pinned {found.id}: it is kept for good")
    _say_next(about, "checkpoints {run} list")
    return 0


def _unpin(about: About, step: str) -> int:
    from supervisor.engine import retaining

    let_go = retaining.unpin(about.store, about.place, _number(step))
    if not let_go:
        pinned = sorted({each.step for each in retaining.pinned(about.store, about.place)})
        known = f"pinned are {', '.join(f'step {each:,}' for each in pinned)}" if pinned else "none is pinned"
        raise UsageError(
            f"{about.place.name}: step {step} is not pinned; {known}", _command(about, "checkpoints {run}")
        )
    for each in let_go:
        show(f"unpinned {each}: it goes when newer ones are safe")
    _say_next(about, "checkpoints {run}")
    return 0


def _prune(about: About) -> int:
    from supervisor.engine import catalogue, overview
    from supervisor.engine.clock import BootClock

    seen = overview.look(about.store, about.place, about.record, BootClock().now())
    if seen.rank is None:
        show(f"{about.place.name}: no checkpoint yet")
        return 0
    if seen.served:
        raise UserError(
            f"session {seen.rank.epoch} is at {about.place.name}, or may be: it removes old checkpoints by itself",
            _command(about, "stop {run}"),
        )
    known = list(catalogue.judged(about.store, about.place, about.local))
    going, freed = catalogue.would_go(about.store, about.place, known, about.newest, about.watched)
    if not about.options.yes:
        named = "".join(f"\n  {each}" for each in sorted(going))
        show(f"{about.place.name}: {len(going)} of {len(known)} would go, {size(freed)}{named}")
        unproved = len(known) - len(catalogue.proved(about.store, about.place, known))
        if unproved:
            show(
                f"  {unproved} of them are not safe, and make none go: `{_command(about, 'checkpoints {run} verify')}`"
            )
        _say_next(about, "checkpoints {run} prune --yes")
        return 0
    removed, freed = catalogue.prune(about.store, about.place, known, about.newest, about.watched)
    show(f"{about.place.name}: removed {removed} of {len(known)} and what uploads had left, {size(freed)} freed")
    _say_next(about, "checkpoints {run} list")
    return 0


def _new_folder(text: str) -> Path:
    to = Path(text).absolute()
    try:
        held = any(to.iterdir())
    except FileNotFoundError:
        to.parent.mkdir(parents=True, exist_ok=True)
    except NotADirectoryError:
        raise UsageError(f"{text} is a file", "name a folder that is new or empty") from None
    else:
        if held:
            raise UsageError(f"the folder {text} is not empty", "name a folder that is new or empty")
    return to


def _other(about: About, which: str) -> str:
    return _command(about, "checkpoints {run} verify" if which == "latest" else "checkpoints {run} export latest DIR")


def _command(about: About, words: str) -> str:
    return f"{program.called_as()} {_line(about, words)}"


def _say_next(about: About, *commands: str) -> None:
    show("\n".join(next_commands([_line(about, each) for each in commands])))


def _line(about: About, words: str) -> str:
    run = shlex.join(program.run_words(about.place.name))
    return f"{words.format(run=run)}{option(about.options)}"


def _understood(words: list[str]) -> tuple[str | None, str, list[str]]:
    """Read ``[RUN] [ACTION [ITS WORDS]]``; a run may also stand at the end."""
    at = next((index for index, word in enumerate(words) if word in WORDS), None)
    if at == 0 and words[1:] and words[1] in WORDS and len(words) > WORDS[words[0]] + 1:
        at = 1  # the run has the name of an action
    if at is None:
        names, action, own = words, "list", []
    else:
        action = words[at]
        own = words[at + 1 : at + 1 + WORDS[action]]
        names = words[:at] + words[at + 1 + WORDS[action] :]
        if len(own) < WORDS[action]:
            needs = {"export": "export STEP|latest DIR", "pin": "pin STEP", "unpin": "unpin STEP"}[action]
            raise UsageError(f"`{action}` needs more words", f"{program.command('checkpoints')} [RUN] {needs}")
        if own and "@" in own[0]:  # RUN@STEP
            name, _, own[0] = own[0].rpartition("@")
            names.append(name)
    if len(names) > 1:
        raise _too_many(words, names)
    return (names[0] if names else None), action, own


def _too_many(words: list[str], names: list[str]) -> UsageError:
    """Return the error for words that are neither a run nor an action: the nearest action may have been meant."""
    for word in names:
        if near := nearest(word, WORDS):
            line = program.command("checkpoints", *(near if each == word else each for each in words))
            return UsageError(f"checkpoints has no action {word!r}; did you mean {near}?", line)
    return UsageError(
        f"{names[1]!r} is one word too many", f"{program.command('checkpoints', '--help')} shows the actions"
    )


def _options(arguments: Sequence[str]) -> Namespace:
    """Read the verb's own arguments; the name of a run that begins with a dash stands behind ``--`` or in ``--name=``."""
    line = _parser()
    words = line.with_name(list(arguments))
    options, unknown = line.parse_known_intermixed_args(words)
    if unknown:
        line.refuse(words, unknown)
    return options


def _check_form(form: str, run: str, action: str) -> None:
    """Raise UsageError for a form of the trained model that does not exist, and where nothing is exported."""
    try:
        one_of(form, trained.FORMS)
    except UsageError as error:
        raise UsageError(f"--as: {error.what}", error.hint) from None
    if action != "export":
        line = program.command_of_run("checkpoints", run, "export", "latest", "DIR", "--as", form)
        raise UsageError(f"--as {form} goes with export, and {action} writes no file", line)
    trained.check(form)


def _parser() -> Parser:
    made = parser("checkpoints", "Look after the checkpoints of a run; without an action they are listed.")
    made.usage = "%(prog)s [RUN] [list | verify | export STEP|latest DIR | pin STEP | unpin STEP | prune]"
    made.add_argument(
        "words", metavar="RUN ACTION", nargs="*", help="the run (default: the live one, else the newest), and an action"
    )
    made.epilog = "\n".join(["actions:", *(f"  {action:26}{words}" for action, words in ACTIONS.items())])
    made.add_argument("--name", dest="named", help=argparse.SUPPRESS)
    made.add_argument("--json", action="store_true", help="list and verify: as a JSON array")
    made.of_run = True
    made.add_argument(
        "--as",
        dest="form",
        metavar="FORM",
        help="export: the trained model as a file of its own, too: torch or safetensors",
    )
    made.add_argument("--yes", action="store_true", help="prune: do it, not only say it")
    return made
