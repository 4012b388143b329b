"""JAX.

- ``adapter``: arrays and keys
- ``trees``: pytrees of flax, optax, equinox
"""
