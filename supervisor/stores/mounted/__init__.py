"""A mounted drive, reached through worker processes with deadlines.

- ``backend``: what a worker does on the drive
- ``guard``: verifies the mount before each operation
- ``identity``: run records that identify a mount
- ``ipc``: messages to workers
- ``known_mounts``: folders that were mounts before
- ``mounts``: the mount table
- ``pool``: worker processes
- ``store``: the store
- ``worker``: main of a worker process
"""
