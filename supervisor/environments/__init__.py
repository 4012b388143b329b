"""The job's environment: what a script wants, what a machine has, and the difference put in place."""
