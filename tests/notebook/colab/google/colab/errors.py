"""The errors of google.colab."""


class Error(Exception):
    """Base class for all Colab errors."""


class RuntimeManagementError(Error):
    """The machine could not be managed."""
