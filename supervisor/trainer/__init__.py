"""What runs inside the training process: attach(), the channel to the supervisor, and saving beside the loop."""
