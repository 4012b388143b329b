"""What people look at, all drawn from one RunStatus."""
