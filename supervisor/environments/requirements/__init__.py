"""How scripts state their packages.

- ``direct_references``: packages by path or address
- ``project_files``: Poetry, Pipfile, setup.cfg, conda
- ``requirement_file``: requirements files
- ``script_requirements``: PEP 723 block or files beside the script
- ``text_encoding``: encodings of text files
"""
