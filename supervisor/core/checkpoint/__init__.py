"""Formats of a checkpoint: manifest, `checkpoint.json`, file list, tensors; and who may write one.

- ``checkpoint_json``: the record inside each checkpoint folder
- ``file_manifest``: the file list of an unmodified script's checkpoint
- ``log_pieces``: digests of the step log's pieces
- ``manifest``: checkpoint ids, manifests, the choice of the resume point
- ``safetensors_file``: the safetensors format without the package
- ``session_id``: fencing: (generation, writer) and who is superseded
"""
