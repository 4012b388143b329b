"""Policies: each is one pure function over values.

- ``deadline``: when the machine ends, when the last save must begin
- ``dedup``: files that checkpoints share
- ``liveness``: hang detection from learned times
- ``nonfinite``: checkpoints from after a NaN
- ``recovery``: retry, back off, or give up
- ``retention``: checkpoints to keep and to prune
- ``rollback``: rollback records and the steps that they skip
- ``save_interval``: Young's formula for the save interval
"""
