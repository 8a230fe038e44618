"""License server and activation service for software sold on a cloud marketplace."""

from typing import Final

__version__: Final = "0.1.0"
