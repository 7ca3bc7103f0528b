"""Turn official downloads into our layouts, and say what is wrong in them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from mmmedmask.datasets.conversion.check_report import CheckReport


class LayoutError(ValueError):
    """Folders or files are not as the data set is released.

    A broken list or table is a ValueError of what reads it.
    """


class Conversion(ABC):
    """A download that was found, and can be written in our layout.

    Attributes:
        notices: What should be known about the download, a sentence each.
    """

    notices: Sequence[str]

    @abstractmethod
    def write(self, out: Path) -> list[str]:
        """Write the data set, and say in lines what was written and decided.

        Raises:
            ConversionError: If files cannot be converted; nothing is written,
                and its report names them all.
            ValueError: If the download is not as released.
        """

    def leftovers(self, out: Path) -> list[str]:
        """Say what else is in the folder, of what reads it would read.

        Of an earlier conversion, that is; called after :meth:`write`.
        """
        return []

    def check(self, out: Path) -> CheckReport:
        """Read back what was written, and look for what is wrong with it."""
        raise NotImplementedError(
            f'{type(self).__name__} has nothing to check')
