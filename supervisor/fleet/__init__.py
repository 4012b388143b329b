"""Provisioners: who brings machines up. One file and one row here makes a new one; loaded when asked for."""

from __future__ import annotations

TABLE = {
    "colab": "supervisor.fleet.colab:ColabProvisioner",
    "ssh": "supervisor.fleet.ssh:SshProvisioner",
    "local": "supervisor.fleet.local:LocalProvisioner",
}
