"""A whole Colab on one computer: control plane, machines, and the environment in which the official command line finds them."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor.fleet.provisioners.colab import TRAITS, ColabProvisioner
from tests.fleet.plane.gateway import Gateway
from tests.fleet.plane.service import Service
from tests.fleet.plane.vm_box import CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOT_OURS = ("SUPERVISOR_RUN_", "COLAB_", "PYTHON")


class World:
    """``service`` takes the faults and counts; ``environ`` is that of a person's computer, with its own home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # It stays: a mount point that is removed here is taken from every machine that has mounted its own over it.
        CONTENT.mkdir(exist_ok=True)
        self.home = folder / "home"
        config = self.home / ".config" / "colab-cli"
        config.mkdir(parents=True)
        self.token = config / "token.json"
        self.log_in()
        self.service = Service(folder / "machines")
        self.gateway = Gateway(folder, self.service)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(NOT_OURS)}
        self.environ = kept | {
            "HOME": str(self.home), "HTTPS_PROXY": self.gateway.url, "https_proxy": self.gateway.url,
            "REQUESTS_CA_BUNDLE": str(self.gateway.authority), "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost", "COLAB_CLI_RETRY_BACKOFF": "0", "SUPERVISOR_COLAB_CLI": _binary(),
            "SUPERVISOR_RUN_LOCAL": str(folder / "local"),
        }  # fmt: skip

    def computer(self, folder: Path) -> ColabProvisioner:
        """Return the provisioner of another of the person's computers; its notes lie in the folder."""
        return ColabProvisioner(folder, self.environ, traits=replace(TRAITS, poll_s=1.0, listings_apart_s=0.1))

    def log_in(self) -> None:
        self.token.write_text(json.dumps({
            "token": "access", "refresh_token": "refresh", "client_id": "id", "client_secret": "secret",
            "expiry": "2099-01-01T00:00:00Z",
        }))  # fmt: skip

    def end(self) -> None:
        self.service.end()
        self.gateway.close()


@contextlib.contextmanager
def a_colab_world(folder: Path) -> Iterator[World]:
    """Make a world under an empty folder; nothing of it stays."""
    world = World(folder)
    try:
        yield world
    finally:
        world.end()


def _binary() -> str:
    if named := os.environ.get("SUPERVISOR_COLAB_CLI"):
        return named
    from tests.fleet.colab_cli import colab_binary

    return str(colab_binary())
