"""No address with credentials stands in an installer's command line (L2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.environments import commands
from supervisor.environments.hiding import PIP, UV, hidden
from supervisor.environments.pip import Pip
from supervisor.environments.port import Sources
from supervisor.environments.settings import Settings
from supervisor.environments.uv import Uv

if TYPE_CHECKING:
    from pathlib import Path

SECRET, OPEN = "https://me:S3CRET@127.0.0.1/simple", "https://127.0.0.1/more"


@pytest.mark.parametrize("variables", [PIP, UV])
@pytest.mark.parametrize("given", [["--extra-index-url", SECRET], [f"--extra-index-url={SECRET}"]])
def test_an_address_with_credentials_goes_by_the_environment(variables, given):
    words, environ = hidden(["install", *given, "--extra-index-url", OPEN, "x"], {"PATH": "p"}, variables)
    assert words == ["install", "--extra-index-url", OPEN, "x"]
    assert environ == {"PATH": "p", variables["--extra-index-url"]: SECRET}


def test_the_persons_own_extra_indexes_stay_and_the_index_is_replaced():
    given = ["--extra-index-url", SECRET, "-i", SECRET]
    _, environ = hidden(given, {"PIP_EXTRA_INDEX_URL": "own", "PIP_INDEX_URL": "own"}, PIP)
    assert environ == {"PIP_EXTRA_INDEX_URL": f"own {SECRET}", "PIP_INDEX_URL": SECRET}
    assert hidden(["--extra-index-url"], {}, PIP) == (["--extra-index-url"], {})


def test_neither_installer_is_called_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    called: list[tuple[list[str], dict[str, str]]] = []

    def run(argv, environ, **_):
        called.append((list(argv), dict(environ)))
        return commands.Ended(0, "", "")

    monkeypatch.setattr(commands, "run", run)
    sources = Sources(index_options=("--extra-index-url", SECRET))
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    Uv("uv", {}, Settings()).install("python", lock, sources=sources)
    Pip(["pip"], {}).install("python", lock, sources=sources)
    for argv, environ in called:
        assert not [word for word in argv if "S3CRET" in word]
        assert SECRET in environ.values()
