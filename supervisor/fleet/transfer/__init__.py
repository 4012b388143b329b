"""Files between machine and home.

- ``acks``: acknowledgements and requests from home
- ``inbox``: parts that arrived on the machine
- ``outbox``: cuts files into parts
- ``part``: the part format
- ``reassembly``: parts back to files
- ``send_order``: which files are sent next
"""
