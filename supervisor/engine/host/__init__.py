"""Tasks of this machine that are independent of the run.

- ``accelerators``: accelerators, without loading a framework
- ``checkup``: checks of ``doctor``
- ``cleaning``: items that ``clean`` can remove
- ``command_records``: start commands that this user typed
- ``environment_store``: environment records and wheels of a run
- ``equipment``: lines on machine, time limit and accelerators
- ``fence_watch``: file events on the run's claims
- ``machine_release``: releases the machine or requeues the job
- ``store_latency``: measures a store
- ``user_key``: the user's key, which signs environment records
"""
