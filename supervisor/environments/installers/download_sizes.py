"""Sizes of files at an index, queried without a download."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

WAIT_S = 5.0
PARALLEL_REQUESTS = 8


def total(addresses: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Return the total bytes of all files; None if the size of one is unknown."""
    trusted = _trusted(environ.get("PIP_CERT", ""))
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as asking:
        answers = list(asking.map(lambda address: _size(address, trusted), addresses))
    return None if None in answers else sum(filter(None, answers))


def _size(address: str, trusted: ssl.SSLContext | None) -> int | None:
    from urllib.request import Request, urlopen

    try:
        if address.startswith("file:"):
            return Path(unquote(urlsplit(address).path)).stat().st_size
        with urlopen(Request(address, method="HEAD"), timeout=WAIT_S, context=trusted) as answer:  # noqa: S310  pip chose it
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None


def _trusted(certificates: str) -> ssl.SSLContext | None:
    import ssl

    try:
        return ssl.create_default_context(cafile=certificates or None)
    except OSError:
        return None
