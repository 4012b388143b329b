"""Decisions as pure functions and frozen values. No clock, no disk, no process; tested without a machine.

- ``checkpoint``: formats of a checkpoint: manifest, ``checkpoint.json``, file list, tensors; and who may write one
- ``clock``: a point in time on both clocks (monotonic and wall)
- ``diagnosis``: one result of ``doctor``, with the hint
- ``digest``: file digests that name their algorithm
- ``environment``: requirements, installed packages, install plan, environment record
- ``errors``: errors of the user, with hint and exit code
- ``escape``: text of scripts, stores and machines made safe to print
- ``fleet``: decisions of ``launch``: one machine after another serves a run
- ``frozen``: cheap frozen dataclasses
- ``humanize``: durations and times as text
- ``masking``: secrets replaced by ``***`` before they are written or shown
- ``policy``: policies: each is one pure function over values
- ``ports``: protocols of store, clock and platform
- ``project``: identity of the project that a script belongs to
- ``session``: the session state machine: one machine's stay at a run, decided by ``decide(session, event, now)``
- ``shell_commands``: command lines for a person to paste, quoted for the shell
- ``signing``: the signature of an environment record
- ``suggestion``: the known word nearest to a mistyped one
- ``unmodified``: decisions about scripts that do not call attach()
- ``wire``: records on the wire: journal, channel between supervisor and trainer, acknowledgements
"""
