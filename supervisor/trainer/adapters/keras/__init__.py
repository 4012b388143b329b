"""Keras 3 on any backend.

- ``adapter``: variables and seeds
- ``attributes``: state on attributes of Keras objects
- ``callbacks``: state of callbacks
- ``state``: models, layers, optimizers, metrics
"""
