"""checkpoints [RUN]: list, verify, export, pin, unpin and prune the checkpoints of a run."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from supervisor.cli import export_model
from supervisor.cli.options import Parser, count, one_of, parser
from supervisor.cli.run_lookup import opened, option, select_run
from supervisor.core import shell_commands
from supervisor.core.checkpoint.manifest import Validity
from supervisor.core.errors import FAILED, FAILED_PRECHECKS, UsageError, UserError
from supervisor.core.frozen import dataclass
from supervisor.core.ports import AlreadyExists
from supervisor.core.suggestion import nearest
from supervisor.views import checkpoints as view
from supervisor.views.formatting import size
from supervisor.views.status import next_commands
from supervisor.views.wrapping import show

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from supervisor.core.checkpoint.manifest import Candidate
    from supervisor.core.ports import Store
    from supervisor.engine.paths import RunPaths
    from supervisor.engine.run_catalog.runs import RunRecord

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
class CheckpointsContext:
    """Context of each action.

    ``local``: this machine's folder of the run; ``newest``: number of checkpoints to keep.
    """

    store: Store
    place: RunPaths
    record: RunRecord
    local: Path
    newest: int
    watched: tuple[str, ...]
    options: Namespace


def run(arguments: Sequence[str]) -> int:
    """Perform one action; the default is list."""
    options = _options(arguments)
    name, action, words = _parse_words(options.words)
    if options.form is not None:
        _check_form(options.form, name or options.named or "", action)
    with opened(options) as store:
        from supervisor import composition
        from supervisor.engine.run_catalog import claims
        from supervisor.engine.upload import prune as pruning

        place, record = select_run(store, options, name or options.named, "checkpoints")
        known = claims.ranks(store, place)
        chosen = (claims.read_claim(store, place, known[-1]) if known else {}).get("options") or record.options
        newest = max(2, pruning.keep_last(chosen, KEEP_DEFAULT))
        local = composition.local_root(os.environ) / record.id
        context = CheckpointsContext(store, place, record, local, newest, pruning.watched(chosen), options)
        acts: dict[str, Callable[..., int]] = {
            "list": _list,
            "verify": _verify,
            "export": _export,
            "pin": _pin,
            "unpin": _unpin,
            "prune": _prune,
        }
        return acts[action](context, *words)


def _list(context: CheckpointsContext) -> int:
    from supervisor.engine.clock import BootClock
    from supervisor.engine.run_catalog import checkpoint_admin

    found = checkpoint_admin.rows(context.store, context.place, context.local, context.newest, context.watched)
    if context.options.json:
        print(json.dumps([view.plain(row) for row in found]))
    elif not found:
        show(f"{context.place.name}: no checkpoint yet")
        _print_next(context, "status {run}")
    else:
        show("\n".join([*view.table(found, BootClock().now().wall_s), *view.legend(found)]))
        _print_next(context, "checkpoints {run} verify", "checkpoints {run} export latest DIR")
    return 0


def _verify(context: CheckpointsContext) -> int:
    from supervisor.engine.clock import BootClock
    from supervisor.engine.resume import packed as packed_checkpoints
    from supervisor.engine.run_catalog import checkpoint_admin, checkpoint_history, verification_records

    seen: list[Candidate] = []
    plain: list[dict[str, Any]] = []
    pace = verification_records.VerificationPace(BootClock(), Event().wait)
    known = checkpoint_history.read_journals(
        context.store, context.place, checkpoint_admin.ids(context.store, context.place)
    )
    for each in checkpoint_admin.verify_all(context.store, context.place, context.local):
        proved = verification_records.VerifiedCheckpoint()
        if each.manifest and each.verdict is Validity.WHOLE:
            recorded = known[each.id].evidence if each.id in known else ""
            proved = verification_records.confirm(context.store, context.place, each.manifest, recorded, pace)
        seen.append(each)
        plain.append(view.plain_verdict(each, proved.evidence or None))
        if not context.options.json:
            show(view.verdict(each, proved.evidence, proved.why))
    verdicts = {each.verdict for each in seen}
    gaps = checkpoint_admin.step_log(context.store, context.place).gaps
    for gap in gaps:
        show(f"step log: {gap}", sys.stderr if context.options.json else sys.stdout)
    if context.options.json:
        print(json.dumps(plain))
    else:
        show(f"{context.place.name}: {view.summary(seen)}")
        if newest := packed_checkpoints.newest_packed(seen):
            show(f"  {packed_checkpoints.export_command(context.store, context.place, newest)}")
        _print_next(context, *_after_verify(verdicts))
    if gaps or Validity.BROKEN in verdicts:
        return FAILED
    return 0 if verdicts <= {Validity.WHOLE} else FAILED_PRECHECKS


def _after_verify(verdicts: set[Validity | None]) -> list[str]:
    return ["resume {run}", "checkpoints {run} export latest DIR"] if Validity.WHOLE in verdicts else ["status {run}"]


def _export(context: CheckpointsContext, which: str, folder: str) -> int:
    from supervisor.engine.resume import packed as packed_checkpoints
    from supervisor.engine.run_catalog import checkpoint_admin

    to = _new_folder(folder)
    wanted = _candidates(context, which)
    skipped: list[Candidate] = []
    for each in wanted:
        gaps: list[object] = []
        try:
            found = checkpoint_admin.export(context.store, context.place, each, to, gaps.append)
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written: {error.strerror}", "name another folder, or make room"
            ) from error
        if found.verdict is Validity.WHOLE:
            for passed in skipped:
                show(f"skipped: {view.verdict(passed)}")
            if newest := packed_checkpoints.newest_packed(skipped):
                show(packed_checkpoints.export_command(context.store, context.place, newest))
            show(f"exported {found.id} to {folder}, verified, with {checkpoint_admin.STEPS_FILE}")
            for gap in gaps:
                show(f"{checkpoint_admin.STEPS_FILE}: {gap}")
            if context.options.form:
                show(f"the model alone: {export_model.write(context.options.form, to, Path(context.record.script))}")
            return 0
        skipped.append(found)
        if found.verdict not in {Validity.BROKEN, Validity.PACKED}:
            break  # an unreadable one may be valid: no older one is taken for the latest
    newest = packed_checkpoints.newest_packed(skipped)
    hint = (
        _other(context, which)
        if newest is None
        else packed_checkpoints.export_command(context.store, context.place, newest)
    )
    raise UserError(f"nothing was exported: {'; '.join(map(view.verdict, skipped))}", hint, FAILED)


def _candidates(context: CheckpointsContext, which: str) -> list[Candidate]:
    from supervisor.engine.resume import fetch as checkpoint_fetch

    if which != "latest":
        return [_one(context, which)]
    every = sorted(
        checkpoint_fetch.active(context.store, context.place), key=lambda each: (each.id, each.path), reverse=True
    )
    if not every:
        raise UsageError(f"{context.place.name} has no checkpoint yet", _command(context, "status {run}"))
    return every


def _one(context: CheckpointsContext, step: str) -> Candidate:
    from supervisor.engine.run_catalog import checkpoint_admin

    found = checkpoint_admin.newest_of_step(context.store, context.place, _number(step))
    if found is None:
        raise UsageError(
            f"{context.place.name} has no checkpoint of step {step}", _command(context, "checkpoints {run} list")
        )
    return found


def _number(step: str) -> int:
    return count(step.replace(",", "").removeprefix("step-"))


def _pin(context: CheckpointsContext, step: str) -> int:
    from supervisor.engine.upload import prune as pruning

    found = _one(context, step)
    try:
        pruning.pin(context.store, context.place, found.id)
    except AlreadyExists:
        show(f"{found.id} was pinned already")
    else:
        show(f"pinned {found.id}: it is kept for good")
    _print_next(context, "checkpoints {run} list")
    return 0


def _unpin(context: CheckpointsContext, step: str) -> int:
    from supervisor.engine.upload import prune as pruning

    unpinned = pruning.unpin(context.store, context.place, _number(step))
    if not unpinned:
        pinned = sorted({each.step for each in pruning.pinned(context.store, context.place)})
        known = f"pinned are {', '.join(f'step {each:,}' for each in pinned)}" if pinned else "none is pinned"
        raise UsageError(
            f"{context.place.name}: step {step} is not pinned; {known}", _command(context, "checkpoints {run}")
        )
    for each in unpinned:
        show(f"unpinned {each}: it goes when newer ones are safe")
    _print_next(context, "checkpoints {run}")
    return 0


def _prune(context: CheckpointsContext) -> int:
    from supervisor.engine.clock import BootClock
    from supervisor.engine.run_catalog import checkpoint_admin, run_status

    seen = run_status.look(context.store, context.place, context.record, BootClock().now())
    if seen.rank is None:
        show(f"{context.place.name}: no checkpoint yet")
        return 0
    if seen.is_active:
        raise UserError(
            f"session {seen.rank.generation} is at {context.place.name}, or may be: it removes old checkpoints by itself",
            _command(context, "stop {run}"),
        )
    known = list(checkpoint_admin.verify_all(context.store, context.place, context.local))
    removable, freed = checkpoint_admin.prunable(context.store, context.place, known, context.newest, context.watched)
    if not context.options.yes:
        named = "".join(f"\n  {each}" for each in sorted(removable))
        show(f"{context.place.name}: {len(removable)} of {len(known)} would go, {size(freed)}{named}")
        unproved = len(known) - len(checkpoint_admin.durable_of(context.store, context.place, known))
        if unproved:
            show(
                f"  {unproved} of them are not safe, and make none go: `{_command(context, 'checkpoints {run} verify')}`"
            )
        _print_next(context, "checkpoints {run} prune --yes")
        return 0
    removed, freed = checkpoint_admin.prune(context.store, context.place, known, context.newest, context.watched)
    show(f"{context.place.name}: removed {removed} of {len(known)} and what uploads had left, {size(freed)} freed")
    _print_next(context, "checkpoints {run} list")
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


def _other(context: CheckpointsContext, which: str) -> str:
    return _command(context, "checkpoints {run} verify" if which == "latest" else "checkpoints {run} export latest DIR")


def _command(context: CheckpointsContext, words: str) -> str:
    return f"{shell_commands.called_as()} {_line(context, words)}"


def _print_next(context: CheckpointsContext, *commands: str) -> None:
    show("\n".join(next_commands([_line(context, each) for each in commands])))


def _line(context: CheckpointsContext, words: str) -> str:
    run = shlex.join(shell_commands.run_words(context.place.name))
    return f"{words.format(run=run)}{option(context.options)}"


def _parse_words(words: list[str]) -> tuple[str | None, str, list[str]]:
    """Parse ``[RUN] [ACTION [ITS WORDS]]``; a run may also stand at the end."""
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
            raise UsageError(f"`{action}` needs more words", f"{shell_commands.command('checkpoints')} [RUN] {needs}")
        if own and "@" in own[0]:  # RUN@STEP
            name, _, own[0] = own[0].rpartition("@")
            names.append(name)
    if len(names) > 1:
        raise _too_many(words, names)
    return (names[0] if names else None), action, own


def _too_many(words: list[str], names: list[str]) -> UsageError:
    """Return the error for words that are neither a run nor an action, with the nearest action."""
    for word in names:
        if near := nearest(word, WORDS):
            line = shell_commands.command("checkpoints", *(near if each == word else each for each in words))
            return UsageError(f"checkpoints has no action {word!r}; did you mean {near}?", line)
    return UsageError(
        f"{names[1]!r} is one word too many", f"{shell_commands.command('checkpoints', '--help')} shows the actions"
    )


def _options(arguments: Sequence[str]) -> Namespace:
    """Parse the verb's arguments. A run's name with a leading dash follows ``--`` or ``--name=``."""
    line = _parser()
    words = line.name_from_dashes(list(arguments))
    options, unknown = line.parse_known_intermixed_args(words)
    if unknown:
        line.reject(words, unknown)
    return options


def _check_form(form: str, run: str, action: str) -> None:
    """Raise UsageError for an unknown form of the trained model, or for a form without an export."""
    try:
        one_of(form, export_model.FORMS)
    except UsageError as error:
        raise UsageError(f"--as: {error.what}", error.hint) from None
    if action != "export":
        line = shell_commands.command_of_run("checkpoints", run, "export", "latest", "DIR", "--as", form)
        raise UsageError(f"--as {form} goes with export, and {action} writes no file", line)
    export_model.check(form)


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
