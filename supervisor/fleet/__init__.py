"""The fleet: the controller on the user's computer, the agent on each machine, and the relay between them."""
