"""PyTorch.

- ``adapter``: tensors, devices, generators
- ``copies``: prepared copies into the host buffer
- ``loader``: position in a plain DataLoader
- ``memory``: memory to restore into
- ``modules``: gradients and flags of modules
- ``xla``: torch_xla
"""
