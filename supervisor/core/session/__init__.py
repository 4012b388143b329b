"""The session state machine: one machine's stay at a run, decided by `decide(session, event, now)`.

- ``anomaly``: NaN losses and loss spikes
- ``commands``: everything that the session can have done
- ``decision``: the return value of ``decide``
- ``events``: everything that the session reacts to
- ``history``: summary of each earlier session
- ``missing_packages``: the distribution that provides a module
- ``running``: handlers while the trainer runs
- ``saving``: handlers of staged, uploaded and durable checkpoints
- ``script_end``: how a script's process ended
- ``shutdown``: handlers of the end: save, upload, end record
- ``startup``: handlers from the claim to the first attempt
- ``state``: the session as one frozen value
- ``state_machine``: table of handlers, timers, ``decide``
- ``status``: what people and programs see of a run
"""
