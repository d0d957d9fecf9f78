"""What can go wrong in the science, as one tree; it holds no logic and knows no caller.

ModelError
├── TrainingDataError      the rows cannot be learned from; says what to bring instead
├── TrainingCancelled      the caller asked the run to stop
├── CollapseError          training ended in an encoder that tells nothing apart
├── ScoringInputError      rows of the wrong width, or not finite
├── CalibrationError       thresholds cannot be computed from these scores
├── EvaluationError        the leave-one-class-out protocol cannot run on this file
└── ArtifactError          a stored model cannot be written or used
    ├── ArtifactExists     the folder is taken; a version is never overwritten
    ├── ArtifactMissing    a file of the artifact is not there
    ├── ArtifactTampered   the bytes are not those that were saved
    ├── ArtifactTooNew     written by a later version of this program
    └── ArtifactMalformed  the digest is right, the content is not
"""

from __future__ import annotations

import inspect


class ModelError(Exception):
    """The model could not do what was asked.

    The docstring of each class is its default message; ``details`` carries the figures for programs.

    Args:
        message: What happened and what to do about it; the class's docstring where left out.
        details: Figures behind the message, by name.
    """

    def __init__(self, message: str | None = None, **details: object) -> None:
        default = inspect.cleandoc(type(self).__doc__ or "").split("\n", maxsplit=1)[0]
        super().__init__(message or default)
        self.details = details


class TrainingDataError(ModelError):
    """The training rows cannot be learned from; bring more rows, finite features and at least 3 rows a class."""


class TrainingCancelled(ModelError):  # noqa: N818 - an outcome that the caller asked for, not a fault
    """Training was cancelled; nothing was written."""


class CollapseError(ModelError):
    """The encoder maps all rows to one point; check for contaminated or shuffled labels, then train again."""


class ScoringInputError(ModelError):
    """Rows cannot be scored; send finite rows of the width that the model was trained on."""


class CalibrationError(ModelError):
    """Thresholds cannot be computed; bring finite scores of normal rows, or ask for a higher false-alarm rate."""


class EvaluationError(ModelError):
    """Leave-one-class-out needs at least two classes with enough rows; bring a labelled file."""


class ArtifactError(ModelError):
    """The model artifact cannot be used; restore it from a backup or train again."""


class ArtifactExists(ArtifactError):  # noqa: N818 - reads as the fact it states
    """The artifact folder exists already and is never overwritten; choose a new folder."""


class ArtifactMissing(ArtifactError):  # noqa: N818 - reads as the fact it states
    """A file of the model artifact is missing; restore the folder from a backup or train again."""


class ArtifactTampered(ArtifactError):  # noqa: N818 - reads as the fact it states
    """The artifact's bytes are not those that were saved; restore the folder from a backup."""


class ArtifactTooNew(ArtifactError):  # noqa: N818 - reads as the fact it states
    """The artifact was written by a later version of this program; upgrade before loading it."""


class ArtifactMalformed(ArtifactError):  # noqa: N818 - reads as the fact it states
    """The artifact's content does not fit together; it was not written by this program."""
