"""The exception and the warning for faulty data on disk."""
from ..errors import UserError


class DataError(UserError):
    """A file or folder of a data set is missing, damaged or of the wrong kind; the message names it."""


class DataWarning(UserWarning):
    """A data set has a fault that its reader can work around; the message names the file."""
