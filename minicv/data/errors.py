"""The exception and the warning for faulty data on disk."""
import warnings

from ..errors import UserError


class DataError(UserError):
    """A file or folder of a data set is missing, damaged or of the wrong kind; the message names it."""


class NoSplit(ValueError):
    """A data set has no split of this name; the message lists those that it has."""


class DataWarning(UserWarning):
    """A data set has a fault that its reader can work around; the message names the file."""


def warn_of_problems(reader: object, problems: list[str], stacklevel: int) -> None:
    """Issue one ``DataWarning`` that shows the first five problems of the annotations, if there are any."""
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        warnings.warn(f"{type(reader).__name__}: {len(problems)} annotations are wrong: {shown}", DataWarning,
                      stacklevel=stacklevel + 1)
