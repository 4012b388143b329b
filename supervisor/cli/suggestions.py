"""Suggestions for a mistyped line: the nearest option, and the line with the script's own arguments after ``--``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core import shell_commands
from supervisor.core.errors import UsageError
from supervisor.core.suggestion import nearest_option

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from supervisor.cli.options import Parser


def split_known(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the verb's own words, and the unknown options with their values.

    The words after an unknown option are its values up to the next option. The script stays with the verb.
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


def correct(parser: Parser, words: Sequence[str], unknown: Sequence[str]) -> tuple[str, str]:
    """Return the option meant by the first unknown one ("" if none), and the whole line to paste.

    An option of ours is corrected in place. One that the script declares, or is nearest to, moves with its value behind
    the ``--``.
    """
    names = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]  # noqa: SLF001
    of_script = _options_of_script(parser, words)
    first = ""
    corrected: list[str] = []
    for word in words:
        wrong = word.partition("=")[0]
        if word not in unknown or not wrong.startswith("--"):
            corrected.append(word)
            continue
        near, owner = _nearest(wrong, names, of_script)
        near = near if owner else parser.new_names.get(near, near)
        first = first or (f"{owner}{near}" if word == unknown[0] and near and near != wrong else "")
        corrected.append((near or wrong) + word[len(wrong) :])
    others = list(parser.script_arguments)
    if parser.of_script:
        corrected, found = split_known(parser, corrected)
        others = [*found, *others]
    return first, shell_commands.command(parser.verb, *corrected, *(["--", *others] if others else []))


def _nearest(wrong: str, ours: Sequence[str], of_script: Sequence[str]) -> tuple[str, str]:
    """Return the nearest option, and "the script's " if it is one of the script's."""
    if wrong in of_script:
        return wrong, "the script's "
    (our, our_ratio), (their, their_ratio) = nearest_option(wrong, ours), nearest_option(wrong, of_script)
    return (our, "") if our_ratio >= their_ratio else (their, "the script's ")


def _options_of_script(parser: Parser, words: Sequence[str]) -> list[str]:
    """Return the long options in the named script's source; none if the script is not found."""
    if not parser.of_script:
        return []
    script = _script(split_known(parser, words)[0])
    if script is None:
        return []
    from supervisor.core.unmodified import script_options
    from supervisor.engine.unmodified import script_sources

    declared = script_options.read(script_sources.read(script)).options
    return [name for option in declared for name in option.names if name.startswith("--")]


def _script(own: Sequence[str]) -> Path | None:
    """Return the file of the named script or module."""
    from supervisor.cli import package_data, script_target

    for before, word in pairwise(["", *own]):
        try:
            if before == "-m":
                return script_target.module_path(word)
        except UsageError:
            return None
        if word.endswith(".py"):
            found = Path(word) if Path(word).is_file() else package_data.script(word)
            if found is not None:
                return found
    return None
