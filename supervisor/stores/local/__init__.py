"""A folder on a local disk.

- ``files``: file operations with fsync
- ``folder``: the store
"""
