"""Side effects of a session: loop, executor, use cases, over the ports of the core.

- ``atomic``: files that are whole under their name or absent; locks between processes
- ``clock``: the only reader of a clock on the supervisor's side
- ``context``: collaborators of one session
- ``executor``: carries out commands, on the loop or on a queue
- ``file_events``: imports watchdog on one thread at a time
- ``file_watch``: which of a script's files changed, and which of them are complete
- ``host``: what belongs to this machine rather than to the run
- ``journal``: events and commands on disk and in the store
- ``json_file``: small JSON files, written atomically
- ``live_status``: status.json for views on this machine
- ``loop``: waits for an event, decides, executes
- ``paths``: layout of runs and sessions
- ``progress``: a line every few seconds during a long call
- ``resume``: a checkpoint's way back from the store
- ``resume_test``: ``rehearse``: kill, resume, compare
- ``run_catalog``: runs in a store, for verbs that read or manage them
- ``session_chain``: the follow-up session in one process after a rollback
- ``signals``: signals, platform notices, internal errors
- ``startup_timing``: seconds to the first step, by part
- ``task_queue``: one thread that runs slow tasks in order
- ``threads``: threads under a process limit
- ``trainer_process``: the trainer as a child process: start, channel, log, what it leaves behind
- ``unmodified``: checkpoints of scripts that do not call attach(): their output files
- ``upload``: a checkpoint's way into the store, up to its confirmation and its pruning
"""
