"""Code inside the training process: attach(), channel, saves beside the loop.

- ``adapters``: one adapter per framework whose values a checkpoint can hold
- ``attach``: the public call
- ``client``: the trainer's end of the channel
- ``clock``: the only reader of a clock on the trainer's side
- ``compare``: compares two checkpoints
- ``context``: the one settings, channel and run of this process
- ``errors``: states that cannot be saved exactly
- ``folder``: old import path of ``save.checkpoint_folder``
- ``hooks``: hooks for scripts that do not call attach(), installed when a framework is imported
- ``loops``: callbacks for frameworks that own the loop
- ``order``: old import path of ``steps.sampler``
- ``process``: the script's process: seeds, threads, signals, end, versions
- ``run``: the run object that attach() returns
- ``runner``: runs the script as ``__main__``
- ``save``: from the state to a staged checkpoint folder, and back
- ``settings``: settings from the supervisor's environment variables
- ``standalone``: saves without a supervisor
- ``state``: capture and restore of attached objects
- ``steps``: the training loop: steps, their log, when to save, which to skip
"""
