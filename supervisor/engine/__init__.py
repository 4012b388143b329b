"""What acts: the loop, the executor and the use cases, over the ports of the core."""
