"""google.colab as far as a run's notebook meets it: what facts are known of it, in its order and with its errors."""
