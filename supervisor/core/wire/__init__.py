"""Records on the wire: journal, channel between supervisor and trainer, acknowledgements.

- ``acks``: the list of files that the user's computer holds
- ``fields``: checked fields of untrusted JSON
- ``journal_codec``: events and commands as JSON lines
- ``messages``: messages between trainer and supervisor
- ``names``: names of records, apart from class names
- ``shapes``: the one reader of records: JSON to dataclasses
"""
