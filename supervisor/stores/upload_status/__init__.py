"""What a drive's client says about uploads.

- ``rclone``: rclone
- ``status``: DriveFS and the choice of the client
"""
