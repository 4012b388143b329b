"""Keras fit().

- ``arrays``: batches of arrays
- ``attributes``: plain attributes that change within fit
- ``batch_seeds``: one seed per batch
- ``build``: creates variables before a restore
- ``callback``: supervisor.KerasCallback
- ``data_position``: epoch and batch of a fit
- ``data_sources``: data sets opened in the middle
- ``script_check``: scripts that call fit twice
- ``second_fit``: a second fit after the first
- ``state``: metrics, callbacks, deferred restore
"""
