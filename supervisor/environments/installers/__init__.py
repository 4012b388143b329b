"""uv, pip and apt.

- ``apt``: Debian packages
- ``choice``: uv or pip
- ``download_sizes``: sizes before a download
- ``hidden_credentials``: index addresses passed outside the command line
- ``pip``: pip
- ``pip_config``: index settings for both
- ``port``: the installer protocol
- ``run_command``: runs an installer
- ``uv``: uv
"""
