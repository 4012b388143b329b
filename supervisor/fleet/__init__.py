"""`launch`: controller at home, agent on each machine.

- ``accepted_files``: what a machine may send
- ``agent``: the agent on a machine
- ``controller``: loop and journal of the controller
- ``disk_quota``: the most that one machine may store at home
- ``executor``: carries out the controller's commands
- ``home_replica``: merges a machine's files into the home store
- ``job_bundle``: the archive that a machine is sent
- ``last_launch``: the last launch of a run on this computer
- ``provisioners``: who creates machines
- ``resume_set``: checkpoints that the next machine needs
- ``transfer``: files between machine and home
"""
