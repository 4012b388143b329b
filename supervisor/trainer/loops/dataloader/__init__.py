"""Resume in the middle of a DataLoader epoch.

- ``position``: batches done, and generator states
- ``replay_sampler``: draws an epoch's order again
- ``rng_states``: generators that an epoch's order depends on
"""
