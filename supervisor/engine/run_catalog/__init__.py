"""Runs in a store, for verbs that read or manage them.

- ``checkpoint_admin``: list, verify, export, pin
- ``checkpoint_history``: when each checkpoint was written and confirmed
- ``claims``: list sessions, claim a run, ask it to stop
- ``detached``: supervisors that a notebook started
- ``finished_run``: is a finished run's result still there
- ``history``: summaries that sessions leave
- ``local_leftovers``: work that only this machine holds
- ``local_sessions``: live sessions on this machine
- ``log_reader``: the trainer's log over all sessions
- ``project``: reads a script's project from disk
- ``remove_run``: deletes a run
- ``run_status``: status of a run from store and live session
- ``runs``: run records
- ``verification_records``: checkpoints that were verified later
"""
