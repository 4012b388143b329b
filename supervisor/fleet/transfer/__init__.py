"""File transfer between a machine and home, without a connection from the machine.

- ``acks``: acknowledgements and requests from home
- ``inbox``: parts that arrived on the machine
- ``outbox``: cuts files into parts
- ``part``: the part format
- ``reassembly``: parts back to files
- ``send_order``: which files are sent next

Theory of operation

Home is the user's computer. It can run a command on the machine and copy files both ways. The machine cannot reach
home, and either side can stop at any instruction.

Rules:

1. Files of a store never change, so a file is identified by its path, length and digest.
2. The unit of transfer is a part: a numbered file of at most 32 MB with chunks of files and a checksum of the whole.
   A reader uses nothing of a part before the checksum is correct.
3. The machine cuts new files into parts in its outbox. At most ``WINDOW_BYTES`` wait there.
4. Home fetches a part, puts its chunks together, and verifies the digest of each complete file. Only then the file
   enters the store at home.
5. Home answers with an acknowledgement. It names the parts that arrived, the complete files, the refused files with the
   reason, and the files that home needs again.
6. The machine appends acknowledgements to ``acknowledged.jsonl``. This list is the only confirmation that its relay
   store gives: durable on the machine means complete at home (I4).
7. A manifest is sent only after home holds every file that it names. Home never shows an incomplete checkpoint.
8. State is in files only: parts in the outbox, acknowledgements in the list. Both sides read them again after a
   restart.

Order: small files of the run first, then the checkpoint that is being sent, then other checkpoints from the newest.
After a silence of home the newest checkpoint goes first.

Cases:

- A part arrives twice or late: its chunks are known, and home acknowledges it again.
- A part is corrupt: home uses nothing of it and fetches it again.
- A complete file has an incorrect digest: home deletes its chunks and asks for the file again.
- Home already has another file under the path: the file is refused, and the upload of its checkpoint fails.
- An acknowledgement is lost: the part is still in the outbox, is fetched again, and is acknowledged again.
- Retention deletes a file before it was sent: the outbox skips it.
- A new outbox of the same machine: its random origin differs, so old acknowledgements do not match its part numbers.
- The next machine: home sends the newest durable checkpoint and the small files of the run as parts to its inbox.
"""
