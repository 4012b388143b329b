"""The script's process: seeds, threads, signals, end, versions.

- ``own_packages``: xxhash for an interpreter without it
- ``script_end``: how the script ended
- ``seeding``: seeds for unseeded generators
- ``signals``: SIGTERM and Ctrl-C
- ``supported_versions``: table of tested framework versions
- ``threads``: threads under a process limit
- ``version_check``: checks framework versions at import
"""
