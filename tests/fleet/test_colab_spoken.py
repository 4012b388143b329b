"""What the official Colab command line prints, in all its forms, and what each form means."""

from __future__ import annotations

import json

import pytest

from supervisor.core.provisioning import Machine, MachineError
from supervisor.fleet.provisioners.colab_spoken import (
    Said,
    balance,
    listing,
    record_in,
    refusal,
    sessions_file,
    trouble,
)

TRACE = "Traceback (most recent call last):\n  ...\ncolab_cli.client.ColabRequestError: Failed to issue request POST https://x/tun/m/assign?nbh=1: "
RECORD = {"name": "toy-1", "token": "t", "url": "http://u", "endpoint": "gpu-t4-s-1", "token_expires_at": "2026-01-01"}


def test_a_listing_names_ours_and_others() -> None:
    said = Said(
        0,
        "[colab] Pruned 1 stale local session(s).\n"
        "[toy-1] gpu-t4-s-1 | Hardware: T4 | Shape: Standard | Variant: GPU\n"
        "[?] m-s-2 | Hardware: CPU | Shape: High-RAM | Variant: DEFAULT\n"
        "[b] tpu-3 | Hardware: V5E1 | Shape: Standard | Variant: TPU | Status: BUSY (exec(launch.py))\n",
        "",
    )
    assert listing(said) == [Machine("toy-1", "gpu-t4-s-1", "T4"), Machine("", "m-s-2"), Machine("b", "tpu-3", "V5E1")]
    assert listing(Said(0, "[colab] No active sessions found on server.\n", "")) == []


@pytest.mark.parametrize(
    "said",
    [
        Said(0, "", ""),
        Said(1, "", TRACE + "Internal Server Error"),
        Said(1, "[a] e-1 | Hardware: T4 | Shape: Standard | Variant: GPU\n", "Traceback"),
        Said(0, "[a] e-1 | Hardware: T4 | Shape: Standard | Variant: GPU\n[colab] something new\n", ""),
        Said(None, "", ""),
    ],
)
def test_what_is_not_understood_is_no_listing(said: Said) -> None:
    with pytest.raises(MachineError) as told:
        listing(said)
    assert told.value.kind == "unreachable"


NO_NAME = (
    "x\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /t?k=abc "
    "(Caused by NameResolutionError('Temporary failure in name resolution'))"
)
GET = (
    "Traceback\ncolab_cli.client.ColabRequestError: Failed to issue request GET https://x/tun/m/assignments?token=abc: "
)


@pytest.mark.parametrize(
    ("said", "kind", "words", "hint"),
    [
        (GET + "Unauthorized", "login", "Colab does not know this login", "colab usage"),
        (GET + "Forbidden", "denied", "Colab forbids this account to list the machines", "open Colab"),
        (GET + "Too Many Requests", "unreachable", "asked too often", "later"),
        (GET + "Service Unavailable", "unreachable", "Colab did not list the machines: Service Unavailable", "tried again"),
        (NO_NAME, "unreachable", "name resolution", "network"),
        ("Traceback\nOSError: [Errno 28] No space left on device", "home", "full disk", "make room"),
        ("Usage: colab\nError: No such option: --config", "failed", "does not know how to", "0.7.5"),
        ("Traceback\nModuleNotFoundError: " + "x" * 500 + " the reason at the end", "unreachable", "the reason at the end", ""),
    ],
)  # fmt: skip
def test_the_reason_is_told_whole_with_the_hint_that_fits(said: str, kind: str, words: str, hint: str) -> None:
    told = trouble(Said(1, "", said), "list the machines")
    assert told.kind == kind
    assert words in str(told)
    assert hint in told.hint
    assert "abc" not in str(told)


def test_units_that_are_not_told_are_a_sentence() -> None:
    with pytest.raises(MachineError) as told:
        balance(Said(1, "", "[colab] Warning: failed to fetch compute-unit info: 503"))
    assert str(told.value) == "Colab did not tell the units: failed to fetch compute-unit info: 503"


@pytest.mark.parametrize("more", [" | Zone: x", " | Status: IDLE | Zone: y | New: z", ""])
def test_a_listing_of_a_newer_command_line_is_understood_and_a_banner_is_no_machine(more: str) -> None:
    line = f"[toy-1] gpu-t4-s-1 | Hardware: T4 | Shape: Standard | Variant: GPU{more}\n"
    assert listing(Said(0, f"A new version of colab is available: 0.8.0\n{line}", "")) == [
        Machine("toy-1", "gpu-t4-s-1", "T4")
    ]
    with pytest.raises(MachineError, match="is not understood: m-s-2") as told:
        listing(Said(0, f"{line}m-s-2 | T4\n", ""))
    assert "another version of `colab`" in told.value.hint


@pytest.mark.parametrize(
    ("said", "logged", "units", "kind"),
    [
        (Said(1, "", "[colab] Allocation refused (precondition failed). This can mean"), "", 5.0, "refused"),
        (Said(1, "", "[colab] Allocation refused (precondition failed). This can mean"), "", 0.0, "quota"),
        (Said(1, "", "[colab] Backend rejected accelerator 'A100'. You may"), "", None, "denied"),
        (Said(1, "", TRACE + "Service Unavailable\n"), "", None, "refused"),
        (Said(1, "", TRACE + "Forbidden\n"), "", None, "denied"),
        (Said(1, "", TRACE + "Unauthorized\n"), "", None, "login"),
        (Said(1, "", "pydantic_core.ValidationError: input_value={'outcome': 2}"), "", None, "quota"),
        (Said(1, "", "pydantic_core.ValidationError: 3 errors"), 'Response Body: {"outcome": "DENYLISTED"}', None, "denied"),
        (Said(1, "", "requests.exceptions.ConnectionError: Max retries exceeded"), "", None, "unreachable"),
        (Said(1, "To authorize colab-cli, visit this URL in any browser:", "EOFError"), "", None, "login"),
        (Said(None, "[colab] Creating session 'a'...", ""), "", None, "unreachable"),
    ],
)  # fmt: skip
def test_a_machine_that_was_not_made(said: Said, logged: str, units: float | None, kind: str) -> None:
    assert refusal(said, logged, units).kind == kind


def test_units() -> None:
    told = balance(Said(0, "Current balance: 87.50 compute units\nUsage rate: 1.96/hr\nActive assignments: 1\n", ""))
    assert (told.units, told.units_per_hour) == (87.5, 1.96)
    with pytest.raises(MachineError):
        balance(Said(1, "", "[colab] Warning: failed to fetch compute-unit info: 500"))


def test_the_last_words_are_told() -> None:
    assert "Connection was lost." in str(
        trouble(Said(1, "", "Traceback\nRuntimeError: Connection was lost.\n"), "do it")
    )


def test_a_record_is_found_whole_or_not_at_all() -> None:
    text = json.dumps({"toy-1": RECORD})
    assert json.loads(record_in(text, "toy-1")) == RECORD
    assert [record_in(each, "toy-1") for each in ("", text[:-5], "[]", '{"toy-1": 3}', '{"toy-2": {}}')] == [""] * 5
    back = json.loads(sessions_file(record_in(text, "toy-1")))["toy-1"]
    assert (back["endpoint"], back["token_expires_at"]) == ("gpu-t4-s-1", None)


def test_no_token_is_told() -> None:
    failed = "[colab] Download failed: HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /x?colab-runtime-proxy-token=abc"
    for words in (
        failed,
        "[colab] Download failed: 500 Server Error for url: https://h/x?colab-runtime-proxy-token=abc",
    ):
        assert "abc" not in str(trouble(Said(1, words, ""), "do it"))
        assert "Download failed: " in str(trouble(Said(1, words, ""), "do it"))


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (
            "NewConnectionError(\"HTTPConnection(host='h', port=1): Failed to establish it: [Errno 111] Connection refused\")",
            "Connection refused",
        ),
        ("ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 502 Bad Gateway'))",
         "Tunnel connection failed: 502 Bad Gateway"),
        ("NameResolutionError('Temporary failure in name resolution')", "Temporary failure in name resolution"),
        ("ConnectTimeoutError('timed out for url: https://h/x?token=abc')", "timed out"),
    ],
)  # fmt: skip
def test_of_a_chain_of_errors_the_innermost_is_told(chain: str, reason: str) -> None:
    err = f"x.ConnectionError: HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /t?k=abc (Caused by {chain})"
    told = trouble(Said(1, "", err), "list the machines")
    assert str(told) == f"Colab did not list the machines: {reason}"
    assert "network" in told.hint
