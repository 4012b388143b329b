"""Capture and restore of attached objects.

- ``capture``: attached objects and generators
- ``rng``: states of random generators
- ``script_classes``: values of the script's own classes
- ``state_trace``: repeated walk of an unchanged state tree
- ``tree``: state trees: JSON node and tensor leaves
- ``typed_json``: JSON that keeps Python types
"""
