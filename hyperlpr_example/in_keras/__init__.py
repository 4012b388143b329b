"""The plate recogniser in Keras 3, on TensorFlow or JAX; it has the same numbers as in_torch."""
