"""The agent on a machine.

- ``agent``: its loop
- ``agent_paths``: folders, store and clock of the machine
- ``agent_status``: status.json of the agent
- ``job``: the supervisor's start, restart and end
- ``lost_store``: a store that vanished under the agent
- ``supervisor_process``: the supervisor as a child of the agent
"""
