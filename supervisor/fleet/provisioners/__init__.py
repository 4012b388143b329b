"""Provisioners: who brings machines up. One file and one row here makes a new one; loaded when asked for."""

from __future__ import annotations

TABLE = {
    "colab": "supervisor.fleet.provisioners.colab:ColabProvisioner",
    "ssh": "supervisor.fleet.provisioners.ssh:SshProvisioner",
    "local": "supervisor.fleet.provisioners.local:LocalProvisioner",
}
