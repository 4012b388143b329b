"""The few calls of Colab's own package that the fleet needs."""
