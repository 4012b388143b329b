"""A checkpoint's way into the store, up to its confirmation and its pruning.

- ``durability``: polls until every byte is confirmed
- ``fenced_store``: store wrapper that stops a superseded session
- ``prune``: deletes what retention lets go
- ``session_store``: all store operations of one session
- ``step_log``: step log over all sessions
- ``uploader``: files, confirmation, manifest of the one checkpoint in flight
"""
