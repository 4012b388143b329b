"""Decisions about scripts that do not call attach().

- ``file_patterns``: steps, streams and temporary files by name
- ``resume_arguments``: ``--resume-args``
- ``resume_file``: which file the script resumes from
- ``resume_options``: resume options that a script's source declares
- ``save_groups``: files that one save writes together
- ``script_options``: options declared in a script's source
- ``state_file_names``: names that suggest saved state
"""
