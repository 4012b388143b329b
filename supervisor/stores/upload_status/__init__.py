"""Upload status reported by a drive's client.

- ``rclone``: rclone
- ``status``: DriveFS and the choice of the client
- ``written_file``: the file that the client is asked about
"""
