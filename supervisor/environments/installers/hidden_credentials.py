"""Index addresses with credentials, passed in the environment: other users of the machine can see a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.masking import masked_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PIP = {"--index-url": "PIP_INDEX_URL", "-i": "PIP_INDEX_URL", "--extra-index-url": "PIP_EXTRA_INDEX_URL"}
UV = {"--index-url": "UV_DEFAULT_INDEX", "-i": "UV_DEFAULT_INDEX", "--extra-index-url": "UV_INDEX"}
_MULTI_VALUE = frozenset({"PIP_EXTRA_INDEX_URL", "UV_INDEX"})


def without_credentials(
    words: Sequence[str], environ: Mapping[str, str], variables: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return a command line without indexes that have credentials, and an environment with these indexes.

    Args:
        words: the command line.
        environ: the environment to extend.
        variables: the installer's variable for each option.
    """
    left, child = [], dict(environ)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, address = word.partition("=")
        variable = variables.get(option)
        if variable is None or not (equals or rest):
            left.append(word)
            continue
        given = address if equals else rest.pop(0)
        if masked_text(given) == given:
            left += [word] if equals else [word, given]
        else:
            before = child.get(variable, "") if variable in _MULTI_VALUE else ""
            child[variable] = f"{before} {given}".strip()
    return left, child
