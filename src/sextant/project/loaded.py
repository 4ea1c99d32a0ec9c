"""What the loader process is given and answers."""

import msgspec

from sextant.kernel.nouns import Manifest


class Failure(msgspec.Struct, frozen=True):
    """An error as fields, so that the other process can raise it again."""

    code: str
    message: str
    where: str = ""
    hint: str = ""


class Answer(msgspec.Struct, frozen=True):
    """Exactly one of the two is set."""

    manifest: Manifest | None = None
    error: Failure | None = None


class Files(msgspec.Struct, frozen=True):
    """The files of the project's folder: path -> digest of those in its bundle, and the others."""

    bundle: dict[str, str]
    left_out: tuple[str, ...] = ()
