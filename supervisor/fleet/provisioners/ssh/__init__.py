"""Any host by ssh.

- ``client``: calls of ssh
- ``provisioner``: the provisioner
- ``remote``: the program that the host runs
"""
