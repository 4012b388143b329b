"""The script's packages: requirements, installed packages and the difference.

- ``file_lock``: one builder of an environment at a time
- ``installed``: packages of an interpreter
- ``installers``: uv, pip and apt
- ``overlay``: a virtual environment over another interpreter
- ``prepare``: prepares the environment of a script
- ``requirements``: how scripts state their packages
- ``resolve``: resolves the difference
- ``tool_env``: the supervisor's own environments
- ``wheel_files``: wheels in a folder
- ``wheels``: wheels kept in the store
"""
