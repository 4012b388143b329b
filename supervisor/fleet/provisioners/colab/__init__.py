"""Colab by its command line.

- ``account``: listing, units, short calls
- ``cells``: code that runs on the machine
- ``cli``: calls of the command line
- ``consent``: Drive consent
- ``output``: parses its output
- ``provisioner``: the provisioner
- ``records``: our records of each machine
- ``run_with_deadline``: kills a call at its deadline
"""
