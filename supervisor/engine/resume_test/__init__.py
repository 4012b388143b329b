"""`rehearse`: kill, resume, compare.

- ``comparison``: compares final state and step log of two runs
- ``rehearsal``: an uninterrupted run and an interrupted one
- ``working_copy``: a copy of the working folder
"""
