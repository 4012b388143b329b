"""The trainer as a child process: start, channel, log, what it leaves behind.

- ``channel``: the supervisor's end of the Unix socket
- ``descendants``: processes that a trainer started
- ``launcher``: starts attempts
- ``log_capture``: stdout and stderr of the trainer
- ``orphans``: leftovers of a dead supervisor
- ``process``: the child process and its signals
- ``process_identity``: a process on a boot of a machine
"""
