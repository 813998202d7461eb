"""Errors that a user can cause. Each message names what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BnnappsError(Exception):
    """Base of every error that this package raises on purpose; the CLI prints it as one line."""

    exit_code = 1


class UsageError(BnnappsError):
    """The request itself is wrong (an unknown name, a malformed override): exit code 2."""

    exit_code = 2


class BinarizeError(UsageError, ValueError):
    """A rule, a plan or a model cannot be binarized as asked. Raised before anything is changed."""


class RecipeError(UsageError):
    """A recipe does not follow its schema."""


class DataError(BnnappsError):
    """A data set is missing, malformed or out of range."""


class CheckpointError(BnnappsError):
    """A checkpoint is missing, damaged, unsafe, or does not fit the model."""


class TrainingError(BnnappsError):
    """A training cannot go on."""


class HubError(BnnappsError):
    """A hub could not be reached, or does not hold what was asked for."""


class ExportError(BnnappsError):
    """A model cannot be exported, or the exported file disagrees with it."""


class MissingExtraError(BnnappsError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: pip install 'bnnapps[{extra}]'"
        )


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The `count` known names nearest to `name`, ready for a message: "'a', 'b', 'c'"."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.0)
    return ", ".join(f"'{n}'" for n in close) if close else "(there are none)"
