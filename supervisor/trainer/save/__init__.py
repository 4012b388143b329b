"""From the state to a staged checkpoint folder, and back.

- ``available_memory``: memory that may still be taken
- ``buffer``: the page-aligned host buffer
- ``checkpoint_folder``: files of a checkpoint
- ``companion_files``: files saved with the attached state
- ``frozen_tensors``: tensors that do not change
- ``layout``: tensors to files and offsets
- ``reader``: reads and verifies tensors
- ``save_overhead``: slow-down of the loop by a save
- ``saver``: snapshot, then a writer thread
- ``snapshot``: copies leaves into the buffer
- ``trained_model``: the model of a checkpoint
- ``writer``: writes a folder atomically
"""
