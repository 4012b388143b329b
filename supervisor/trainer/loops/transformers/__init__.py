"""transformers' Trainer.

- ``callback``: supervisor.TransformersCallback
- ``loop``: patches of the Trainer's loop
- ``state``: progress and callback states
"""
