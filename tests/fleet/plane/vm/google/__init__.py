"""What the machines of the tests have instead of Google's own packages."""
