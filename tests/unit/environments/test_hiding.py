"""No address with credentials stands in an installer's command line (L2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from supervisor.environments.installers import run_command
from supervisor.environments.installers.hidden_credentials import PIP, UV, without_credentials
from supervisor.environments.installers.pip import Pip
from supervisor.environments.installers.pip_config import PipConfig
from supervisor.environments.installers.port import IndexSources
from supervisor.environments.installers.uv import Uv

if TYPE_CHECKING:
    from pathlib import Path

SECRET, OPEN = "https://me:S3CRET@127.0.0.1/simple", "https://127.0.0.1/more"


@pytest.mark.parametrize("variables", [PIP, UV])
@pytest.mark.parametrize("given", [["--extra-index-url", SECRET], [f"--extra-index-url={SECRET}"]])
def test_an_address_with_credentials_goes_by_the_environment(variables, given):
    words, environ = without_credentials(["install", *given, "--extra-index-url", OPEN, "x"], {"PATH": "p"}, variables)
    assert words == ["install", "--extra-index-url", OPEN, "x"]
    assert environ == {"PATH": "p", variables["--extra-index-url"]: SECRET}


def test_the_persons_own_extra_indexes_stay_and_the_index_is_replaced():
    given = ["--extra-index-url", SECRET, "-i", SECRET]
    _, environ = without_credentials(given, {"PIP_EXTRA_INDEX_URL": "own", "PIP_INDEX_URL": "own"}, PIP)
    assert environ == {"PIP_EXTRA_INDEX_URL": f"own {SECRET}", "PIP_INDEX_URL": SECRET}
    assert without_credentials(["--extra-index-url"], {}, PIP) == (["--extra-index-url"], {})


def test_neither_installer_is_called_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    called: list[tuple[list[str], dict[str, str]]] = []

    def run(argv, environ, **_):
        called.append((list(argv), dict(environ)))
        return run_command.CommandResult(0, "", "")

    monkeypatch.setattr(run_command, "run", run)
    sources = IndexSources(index_options=("--extra-index-url", SECRET))
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    Uv("uv", {}, PipConfig()).install("python", lock, sources=sources)
    Pip(["pip"], {}).install("python", lock, sources=sources)
    for argv, environ in called:
        assert not [word for word in argv if "S3CRET" in word]
        assert SECRET in environ.values()
