"""What is decided, and nothing that acts: pure values and functions, tested without a machine."""
