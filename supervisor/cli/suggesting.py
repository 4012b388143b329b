"""What a person may have meant: the nearest option, and the line with the script's own arguments where they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core import program
from supervisor.core.spelling import nearest

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
    """Return the nearest option that is known ("" for none) and the line to paste: corrected, or with the ``--``."""
    options = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]  # noqa: SLF001
    first = next((word for word in unknown if word.startswith("-")), "")
    wrong = first.partition("=")[0]
    near = nearest(wrong, options) if wrong.startswith("--") else ""
    own = [near + word[len(wrong) :] if near and word == first else word for word in words]
    others = list(parser.behind)
    if not near:
        own, found = sorted_out(parser, words)
        others = [*found, *others]
    return near, program.command(parser.verb, *own, *(["--", *others] if others else []))
