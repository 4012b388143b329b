"""Lightning.

- ``callback``: supervisor.LightningCallback
- ``data_position``: position in each loader
- ``deferred_restore``: restores right before the first step
- ``loop_hooks``: patches of Lightning's loops
- ``state``: state of Lightning's connector
"""
