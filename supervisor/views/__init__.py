"""Output for the user, drawn from one RunStatus.

- ``async_stream``: output that never blocks the run
- ``bottom``: the bottom line of a terminal, redrawn in place
- ``checkpoints``: tables of checkpoints
- ``durability_text``: words for safe and not safe
- ``exit_summary``: the last lines of ``start``
- ``fleet``: lines of ``launch``
- ``formatting``: sizes and numbers
- ``live_text``: text redrawn in place
- ``notebook``: the notebook panel
- ``rehearsal``: the verdict of ``rehearse``
- ``status``: the status block
- ``table``: columns
- ``terminal``: lines of ``start``
- ``wrapping``: line breaks and colours
"""
