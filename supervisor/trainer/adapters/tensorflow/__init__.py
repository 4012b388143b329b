"""TensorFlow.

- ``adapter``: variables and tensors
- ``graph``: object graphs
- ``objects``: single objects with state
"""
