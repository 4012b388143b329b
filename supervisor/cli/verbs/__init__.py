"""One file a verb.

- ``agent``: ``agent``, on a machine of ``launch``
- ``checkpoints``: ``checkpoints`` list, verify, export, prune
- ``clean``: ``clean``
- ``doctor``: ``doctor``
- ``examples``: ``examples``
- ``launch``: ``launch``
- ``list_runs``: ``list``
- ``logs``: ``logs``
- ``pack``: ``pack``
- ``rehearse``: ``rehearse``
- ``resume``: ``resume``
- ``rm``: ``rm``
- ``start``: ``start``
- ``status``: ``status``
- ``stop``: ``stop``
"""
