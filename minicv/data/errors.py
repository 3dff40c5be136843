"""The one exception for data on disk that cannot be used."""
from ..errors import UserError


class DataError(UserError):
    """A file or folder of a data set is missing, damaged or not what it should be; the message names it."""


class DataWarning(UserWarning):
    """A data set holds something wrong that its reader can go on without; the message names the file."""
