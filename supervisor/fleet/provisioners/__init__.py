"""Provisioners create machines.

- ``colab``: Colab by its command line
- ``local``: folders on this computer
- ``ssh``: any host by ssh
"""

from __future__ import annotations

TABLE = {
    "colab": "supervisor.fleet.provisioners.colab.provisioner:ColabProvisioner",
    "ssh": "supervisor.fleet.provisioners.ssh.provisioner:SshProvisioner",
    "local": "supervisor.fleet.provisioners.local:LocalProvisioner",
}
