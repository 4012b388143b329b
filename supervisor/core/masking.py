"""Secrets in arguments and addresses: what is written into a store or shown has ``***`` in their place.

A value is taken for a secret by the name before it (``--token X``, ``WANDB_API_KEY=X``, ``?sig=X``), by its place in an
address (``https://user:X@host``), or by its own form (``hf_…``, ``ghp_…``). The script itself gets the true values.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MASK = "***"
_LAST_WORDS = frozenset({
    "token", "secret", "password", "passwd", "passphrase", "pwd", "pass", "apikey", "credential", "credentials", "auth",
    "authorization", "bearer", "pat", "accesskey", "secretkey", "authtoken", "accesstoken", "apitoken", "sig", "signature",
})  # fmt: skip
_BEFORE_KEY = frozenset({
    "api", "access", "secret", "private", "auth", "wandb", "hf", "openai", "anthropic", "comet", "neptune", "clearml", "mlflow",
    "license", "account", "encryption", "signing", "ssh", "aws", "gcp", "azure", "service", "master", "subscription", "session",
    "shared", "host", "deploy", "app", "client", "user", "storage", "kaggle", "github", "gitlab",
})  # fmt: skip
# Of tokenizers and samplers: these are words of the language, and no secrets.
_OF_TEXT = frozenset({
    "pad", "bos", "eos", "unk", "sep", "cls", "mask", "image", "audio", "video", "special", "start", "stop", "end", "begin",
    "prompt", "think", "per", "next", "last", "first", "max", "min", "num", "n", "pooling", "decoder", "img", "blank", "space",
    "trigger", "placeholder", "initializer", "instance", "class", "concept", "eot", "eod", "sos", "pass", "one", "two", "forward",
    "single", "multi", "second", "backward",
})  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FORMS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:sk|pk|rk)-(?:[A-Za-z0-9_-]{20,}|(?=[A-Za-z]*\d)[A-Za-z0-9]{6,})"
    r"|hf_(?:[A-Za-z0-9]{16,}|(?=[A-Za-z]*\d)[A-Za-z0-9]{6,})"
    r"|gh[pousr]_[A-Za-z0-9]{6,}|github_pat_\w{6,}|glpat-[\w-]{6,}|xox[abeoprs]-[\w-]{6,}|xapp-[\w-]{6,}"
    r"|(?:AKIA|ASIA|AROA|ABIA)[0-9A-Z]{12,}|AIza[\w-]{30,}|ya29\.[\w.-]{10,}|GOCSPX-[\w-]{6,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*|pypi-[\w-]{20,}|npm_[A-Za-z0-9]{20,}|dckr_pat_[\w-]{10,}|nvapi-[\w-]{10,}"
    r"|r8_[A-Za-z0-9]{20,}|gsk_[A-Za-z0-9]{20,}|dop_v1_[0-9a-f]{20,}|SG\.[\w-]{10,}\.[\w-]{10,}|ATATT[\w-]{20,}"
    r")"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)(?=\S*\d|\S{16})[\w.~+/=-]{6,}")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#\s@]+)@")
_BARE_USER = re.compile(r"(?<![\w/.:@-])[\w.+-]+:[^\s/@:]+@(?=[\w-]+(?:\.[\w-]+)*(?:[:/\s]|$))")
_NAMED = re.compile(
    r"""(?<![\w.-])(["']?)(-{0,2}[A-Za-z_][\w.-]*)\1(\s*[=:]\s*)(?!//)("[^"]*"|'[^']*'|[^\s,;&"'{}\[\])]+)"""
)
_FLAG = re.compile(r"""(?<!\S)(--?[A-Za-z][\w.-]*)(\s+)("[^"]*"|'[^']*'|[^\s"']+)""")
_WITHOUT_PASSWORD = frozenset({"git", "ssh", "hg", "svn"})
_LONG = 16
_SHORT_OPTION = 3


def masked(arguments: Sequence[str]) -> list[str]:
    """Return a script's arguments with `MASK` for each secret, as many as there were."""
    found: list[str] = []
    secret = False
    for each in arguments:
        is_option = each.startswith("--") or (each.startswith("-") and len(each) <= _SHORT_OPTION)
        found.append(MASK if secret and each and not is_option else _in_one(each))
        name, equals, _ = each.partition("=")
        secret = each.startswith("-") and not equals and _is_secret(name)
    return found


def masked_text(text: str) -> str:
    """Return a text that may hold command lines and addresses, with `MASK` for each secret."""

    def flag(found: re.Match[str]) -> str:
        hides = _is_secret(found[1]) and not found[3].startswith("--")
        return f"{found[1]}{found[2]}{MASK}" if hides else found[0]

    return _FLAG.sub(flag, _in_one(text))


def holes(arguments: Sequence[str]) -> list[str]:
    """Return those arguments in which a secret is missing: `MASK` stands for it."""
    gaps = re.compile(rf"(?:^|[=:/\s\"']){re.escape(MASK)}(?:$|[@&\s\"',;}}])")
    return [each for each in arguments if gaps.search(each)]


def _in_one(text: str) -> str:
    text = _USER.sub(_without_user, text)
    text = _BARE_USER.sub(f"{MASK}@", text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    text = _NAMED.sub(_without_value, text)
    return _FORMS.sub(MASK, text)


def _without_user(found: re.Match[str]) -> str:
    user, colon, _ = found[2].partition(":")
    if not colon and user in _WITHOUT_PASSWORD:
        return found[0]  # "ssh://git@host": everybody's name there
    return f"{found[1]}{MASK}@"


def _without_value(found: re.Match[str]) -> str:
    quote, name, between, value = found[1], found[2], found[3], found[4]
    if value.lower() in {"bearer", "basic"} or not _is_secret(name, value):
        return found[0]
    around = value[0] if value[0] in "\"'" else ""
    return f"{quote}{name}{quote}{between}{around}{MASK}{around}"


def _is_secret(name: str, value: str = "") -> bool:
    """Return True if the name of an option, variable or field is that of a secret."""
    words = [each for each in re.split(r"[-_.\s]+", _CAMEL.sub("-", name).lower()) if each]
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "id" and words[-3:-1] == ["access", "key"]:
        return True
    if last == "key":
        return before in _BEFORE_KEY or (not before and len(value) >= _LONG and bool(re.search(r"\d", value)))
    if last == "token" and before in _OF_TEXT:
        return False
    return last in _LAST_WORDS and (
        last not in {"pass", "sig"} or len(words) == 1 or before in {"db", "user", "smtp", "my"}
    )
