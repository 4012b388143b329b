"""Changes of a script's files, and their completeness.

- ``complete_files``: files known to be complete after a crash
- ``discovery``: new files that look like saved state
- ``file_formats``: completeness by format: zip, safetensors, HDF5
- ``fs_events``: file events of the system, or polling
- ``open_files``: files open for writing, from /proc
- ``quiescence``: files that no process writes
- ``scan``: folder listing without following links
- ``stable_copy``: copies of files that may still change
- ``watch_options``: ``--watch-dir``
- ``watcher``: triggers snapshots for one attempt
"""
