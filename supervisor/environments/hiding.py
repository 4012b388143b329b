"""Addresses with credentials go to an installer in its environment: other users of the machine see a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.masking import masked_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PIP = {"--index-url": "PIP_INDEX_URL", "-i": "PIP_INDEX_URL", "--extra-index-url": "PIP_EXTRA_INDEX_URL"}
UV = {"--index-url": "UV_DEFAULT_INDEX", "-i": "UV_DEFAULT_INDEX", "--extra-index-url": "UV_INDEX"}
_SEVERAL = frozenset({"PIP_EXTRA_INDEX_URL", "UV_INDEX"})


def hidden(
    words: Sequence[str], environ: Mapping[str, str], variables: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return a command line without the indexes whose address has credentials, and the environment that names them.

    ``variables``: for each option the installer's variable.
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
            before = child.get(variable, "") if variable in _SEVERAL else ""
            child[variable] = f"{before} {given}".strip()
    return left, child
