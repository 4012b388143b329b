"""The training loop: steps, their log, when to save, which to skip.

- ``data_position``: position in data that a script iterates
- ``loss_monitor``: NaN and spike detection
- ``progress``: heartbeats, sections and anomalies, for attached and unmodified scripts
- ``sampler``: resumable shuffle sampler
- ``section_timer``: seconds in start, restore, step, save, eval
- ``step_boundary``: save, stop and report between two steps; when the next save is due
- ``step_log``: rows until the next checkpoint
- ``step_skipping``: skips steps after a rollback
"""
