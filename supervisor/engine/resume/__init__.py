"""A checkpoint's way back from the store.

- ``fetch``: lists, verifies and fetches the newest valid checkpoint
- ``import_run``: imports a run from a read-only store
- ``packed``: checkpoints that builds before 0.1 compressed
- ``rollback_records``: rollback and NaN records in the store
- ``staging``: staged checkpoints on the local disk
"""
