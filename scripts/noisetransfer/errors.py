"""The one kind of error that a user can mend, and how its message lists what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class StudyError(Exception):
    """Bad input: the message names the file or key, what is wrong, and what to do."""


def listed(values: Iterable[str]) -> str:
    """Return names in their order, as a message lists what is allowed."""
    return ", ".join(sorted(values)) or "(none)"
