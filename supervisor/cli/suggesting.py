"""What a person may have meant: the nearest option, and the line with the script's own arguments where they belong."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.errors import UsageError
from supervisor.core.spelling import nearest_option

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from supervisor.cli.options import Parser


def sorted_out(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which words are the verb's own, and which are options that it does not know, with their values.

    The words after an option that is not known are its values, up to the next option; the script stays the verb's.
    """
    takes = {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}  # noqa: SLF001
    own: list[str] = []
    others: list[str] = []
    unknown = False
    value_of_own = False
    for word in words:
        name = word.partition("=")[0]
        if value_of_own:
            own.append(word)
            value_of_own = False
        elif name in takes:
            own.append(word)
            unknown = False
            value_of_own = takes[name] and "=" not in word
        elif word.startswith("-") and word != "-":
            others.append(word)
            unknown = True
        elif unknown and (own or not word.endswith(".py")):
            others.append(word)
        else:
            own.append(word)
            unknown = False
    return own, others


def corrected(parser: Parser, words: Sequence[str], unknown: Sequence[str]) -> tuple[str, str]:
    """Return the option that the first unknown one was meant to be ("" for none known), and the whole line to paste.

    An option of ours is put right where it stands. One that the script declares, or that is nearer to one that it
    declares, goes with its value behind the ``--``.
    """
    names = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]  # noqa: SLF001
    of_script = _options_of_script(parser, words)
    first = ""
    put_right: list[str] = []
    for word in words:
        wrong = word.partition("=")[0]
        if word not in unknown or not wrong.startswith("--"):
            put_right.append(word)
            continue
        near, whose = _nearest(wrong, names, of_script)
        first = first or (f"{whose}{near}" if word == unknown[0] and near and near != wrong else "")
        put_right.append((near or wrong) + word[len(wrong) :])
    others = list(parser.behind)
    if parser.of_script:
        put_right, found = sorted_out(parser, put_right)
        others = [*found, *others]
    return first, program.command(parser.verb, *put_right, *(["--", *others] if others else []))


def _nearest(wrong: str, ours: Sequence[str], of_script: Sequence[str]) -> tuple[str, str]:
    """Return the option that was meant, and "the script's " where it is one of those."""
    if wrong in of_script:
        return wrong, "the script's "
    (our, our_ratio), (their, their_ratio) = nearest_option(wrong, ours), nearest_option(wrong, of_script)
    return (our, "") if our_ratio >= their_ratio else (their, "the script's ")


def _options_of_script(parser: Parser, words: Sequence[str]) -> list[str]:
    """Return the long options that the named script declares, read from its source; none where it cannot be found."""
    if not parser.of_script:
        return []
    script = _script(sorted_out(parser, words)[0])
    if script is None:
        return []
    from supervisor.core import script_options
    from supervisor.engine.files import script_sources

    declared = script_options.read(script_sources.read(script)).options
    return [name for option in declared for name in option.names if name.startswith("--")]


def _script(own: Sequence[str]) -> Path | None:
    """Return the file of the script or module that the words name."""
    from supervisor.cli import shipped, targets

    for before, word in pairwise(["", *own]):
        try:
            if before == "-m":
                return targets.module_path(word)
        except UsageError:
            return None
        if word.endswith(".py"):
            found = Path(word) if Path(word).is_file() else shipped.script(word)
            if found is not None:
                return found
    return None
