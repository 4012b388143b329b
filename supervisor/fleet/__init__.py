"""`launch`: a controller on the user's computer, an agent on each machine.

- ``accepted_files``: files accepted from a machine
- ``agent``: the agent on a machine
- ``controller``: loop and journal of the controller
- ``disk_quota``: disk space of one machine on this computer
- ``executor``: carries out the controller's commands
- ``home_replica``: merges a machine's files into the local store
- ``job_bundle``: the archive sent to a machine
- ``last_launch``: the last launch of a run on this computer
- ``provisioners``: create machines
- ``resume_set``: checkpoints that the next machine needs
- ``transfer``: files between machine and computer
"""
