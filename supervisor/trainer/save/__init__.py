"""From the state to a staged checkpoint folder, and back.

- ``buffer``: the page-aligned host buffer, and the memory that is free for it
- ``checkpoint_folder``: files of a checkpoint
- ``companion_files``: files saved with the attached state
- ``frozen_tensors``: tensors that do not change
- ``layout``: tensors to files and offsets
- ``reader``: reads and verifies tensors
- ``saver``: snapshot, writer thread, and the overhead that a save adds to the steps
- ``snapshot``: copies leaves into the buffer
- ``trained_model``: the model of a checkpoint
- ``writer``: writes a folder atomically
"""
