"""Decisions of `launch`: one machine after another serves a run.

- ``decide``: ``decide(fleet, event, now)``
- ``messages``: events and commands of the controller
- ``provisioning``: protocol of a provisioner
- ``serving``: handlers while a machine serves
- ``shutdown``: release of machines and the end
- ``state``: the fleet as one frozen value
- ``unsaved``: a machine that trains and saves nothing
- ``waiting``: what is printed while nothing changes
"""
