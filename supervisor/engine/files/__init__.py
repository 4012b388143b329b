"""Files of a script that nobody changed: seen whole, taken into snapshots, put back. ``script_files`` is the door."""
