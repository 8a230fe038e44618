"""Conditions of lists that callers may combine: SQL text with its values, in one value."""

from typing import Any, Final

import msgspec


class Where(msgspec.Struct, frozen=True):
    """Conditions that must all hold: constant SQL texts in which `{}` stands for the marker of a value."""

    conditions: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()

    def always(self, condition: str) -> "Where":
        """These conditions and one without a value."""
        return Where((*self.conditions, condition), self.values)

    def given(self, condition: str, value: Any | None) -> "Where":
        """These conditions and one with one value; a value of None asks for nothing."""
        return self if value is None else Where((*self.conditions, condition), (*self.values, value))

    def sql(self, first: int) -> str:
        """` AND …` for each condition, the markers numbered from `first`."""
        text = "".join(f" AND {condition}" for condition in self.conditions)
        return text.format(*(f"${number}" for number in range(first, first + len(self.values))))


EVERYTHING: Final = Where()
