"""The agent on a machine.

- ``agent``: its loop
- ``agent_status``: status.json of the agent
- ``job``: the supervisor's start, restart and end
- ``lost_store``: a store that vanished under the agent
- ``supervisor_process``: the supervisor as a child of the agent
"""
