"""How large files at an index are, asked without fetching them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

WAIT_S = 5.0
AT_ONCE = 8


def total(addresses: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Return the bytes of all files; None where one of them is not told."""
    trusted = _trusted(environ.get("PIP_CERT", ""))
    with ThreadPoolExecutor(AT_ONCE) as asking:
        told = list(asking.map(lambda address: _size(address, trusted), addresses))
    return None if None in told else sum(filter(None, told))


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
