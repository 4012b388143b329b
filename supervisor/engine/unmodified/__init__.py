"""Checkpoints of unmodified scripts: their output files.

- ``bundle``: content of a snapshot
- ``dir_fd``: a folder reached by descriptors, never through links
- ``protected_files``: files that a restore never replaces
- ``restore``: makes a folder equal to a snapshot
- ``resume_candidates``: the script's own checkpoint to resume from
- ``script_sources``: reads a script's source files
- ``session``: restore, watch and snapshot for one session
- ``snapshot``: one snapshot as a staged checkpoint
- ``snapshot_series``: numbering of snapshots
- ``unsaved_files``: warns of files that are not kept
"""
