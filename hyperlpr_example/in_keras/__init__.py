"""What the plate recogniser is in Keras 3, on TensorFlow or JAX; the same numbers as in_torch."""
