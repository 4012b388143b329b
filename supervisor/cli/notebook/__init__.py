"""Notebook commands.

- ``detached``: a session that survives the kernel
- ``magics``: %supervise and %supervisor
- ``session``: a session watched by a cell
"""
