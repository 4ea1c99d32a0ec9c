"""The errors that a user can meet, each with a stable code, a cause chain and a hint.

SextantError
+-- UserError    what was asked cannot be done as asked            exit 2, HTTP 4xx
|   +-- UsageError, ProjectError, NotFound, Conflict, Denied, BadData (BadRows)
+-- WorldError   the machine, a disk, a peer failed; may be retried  exit 3, HTTP 5xx
|   +-- StorageError, Busy, StepFailed, Damaged, MissingExtra
+-- Bug          a promise inside Sextant was broken                 exit 70, HTTP 500
A *finding* (a failed check, a rejected release) is a result, not an error: exit 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

_ROWS_NAMED = 3  # rows of `BadRows` that the message names


class SextantError(Exception):
    """An error with a code (`SX-AREA-NNN`), what failed, and a command or edit that helps. `status`
    is its HTTP status where that is not the one of its kind (0 = it is)."""

    exit_code: ClassVar[int] = 70
    http_status: ClassVar[int] = 500

    def __init__(
        self, code: str, message: str, *, hint: str = "", where: str = "", status: int = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.where = where
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        parts = (type(self), self.code, self.message, self.hint, self.where)
        return _rebuild, parts, {"status": self.status}

    def lines(self) -> list[str]:
        """Return the error as lines of text: what, caused by, where, hint with the code."""
        out = [f"error: {self.message}"]
        out += [f"  caused by: {text}" for text in self._causes(foreign=True)]
        if self.where:
            out.append(f"  at: {self.where}")
        out += ["", f"hint: {self.hint} ({self.code})" if self.hint else f"({self.code})"]
        return out

    def _causes(self, *, foreign: bool) -> list[str]:
        """Return the texts of the causes. `foreign`: also of exceptions of Python and libraries,
        which name what is inside; they go to whoever runs Sextant, not over the network."""
        out = []
        cause = self.__cause__
        while cause is not None:
            if isinstance(cause, SextantError):
                out.append(cause.message)
            elif isinstance(cause, RemoteCause):
                out.append(str(cause))
            elif foreign:
                out.append(f"{type(cause).__name__}: {cause}")
            cause = cause.__cause__
        return out

    def problem(self) -> dict[str, Any]:
        """Return the error as a problem document (RFC 9457) with our code, hint and place, and the
        exit code of a command: what somebody over the network may read."""
        out: dict[str, Any] = {
            "type": f"sextant:{self.code}",
            "title": self.message,
            "status": self.status or self.http_status,
            "code": self.code,
            "hint": self.hint,
            "where": "" if self.where.startswith("/") else self.where,  # a path of the server's
        }
        caused = [f"caused by: {text}" for text in self._causes(foreign=False)]
        if caused:
            out["detail"] = "\n".join(caused)
        return {**out, "kind": type(self).__name__, "exit_code": self.exit_code}


def from_problem(problem: Mapping[str, Any], status: int) -> SextantError:
    """Return the error that a problem document tells of; one that is not ours keeps its title."""
    kinds = {
        kind.__name__: kind
        for kind in (
            UsageError,
            ProjectError,
            NotFound,
            Conflict,
            Denied,
            BadData,
            BadRows,
            StorageError,
            Busy,
            StepFailed,
            Damaged,
            MissingExtra,
            Bug,
            UserError,
            WorldError,
        )
    }
    kind = kinds.get(str(problem.get("kind")), UserError if 400 <= status < 500 else WorldError)
    title = str(problem.get("title") or problem.get("detail") or f"the server answered {status}")
    error = kind(
        str(problem.get("code", "SX-REMOTE-003")),
        title,
        hint=str(problem.get("hint", "")),
        where=str(problem.get("where", "")),
    )
    if isinstance(error, BadRows):
        error.read(problem)
    if problem.get("detail") and problem.get("code"):
        error.__cause__ = RemoteCause(str(problem["detail"]).removeprefix("caused by: "))
    return error


class RemoteCause(Exception):
    """What a server says was behind its error."""


def _rebuild(
    kind: "type[SextantError]", code: str, message: str, hint: str, where: str
) -> SextantError:
    return kind(code, message, hint=hint, where=where)


class UserError(SextantError):
    """What was asked cannot be done as asked; nothing was changed."""

    exit_code = 2
    http_status = 400


class UsageError(UserError):
    """A command, option or argument is wrong."""


class ProjectError(UserError):
    """The project's own files are wrong; `where` is `file:line`."""

    http_status = 422


def joined(
    code: str, message: str, errors: Sequence[ProjectError], *, shown: int | None = None
) -> ProjectError:
    """Return one error that lists several, with their places; the error itself when it is one.

    code, message  of the list
    shown          how many are listed; None = all
    """
    if len(errors) == 1:
        return errors[0]
    listed = [
        f"{error.where}: {error.message} ({error.code})"
        + (f"\n    hint: {error.hint}" if error.hint else "")
        for error in errors[:shown]
    ]
    more = len(errors) - len(listed)
    if more:
        listed.append(f"and {more:,} more")
    return ProjectError(
        code,
        f"{message}\n  " + "\n  ".join(listed),
        hint="mend them one by one; each names its place",
        where=errors[0].where,
    )


class NotFound(UserError):
    """A named thing does not exist; the hint lists neighbours."""

    http_status = 404


class Conflict(UserError):
    """Somebody else changed it first; nothing was written."""

    http_status = 409


class Denied(UserError):
    """A policy said no, or wants an approval first."""

    http_status = 403


class BadData(UserError):
    """Data handed in is not what was declared."""

    http_status = 422


class BadRow(NamedTuple):
    """One row that cannot be taken.

    row     its place, from 0
    column  "" when it is about the whole row
    reason  what is wrong, without the value
    """

    row: int
    column: str
    reason: str

    def text(self, unit: str = "row") -> str:
        return (
            f"{unit} {self.row}"
            + (f", column `{self.column}`" if self.column else "")
            + (f": {self.reason}")
        )


class BadRows(BadData):
    """Rows that cannot be taken; nothing of their batch was taken."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        where: str = "",
        rows: Sequence[BadRow] = (),
        count: int = 0,
        unit: str = "row",
    ) -> None:
        """rows   the first of them, in their order
        count  how many there are
        unit   what `BadRow.row` counts: rows from 0, or lines of a file from 1
        """
        named = [row.text(unit) for row in rows[:_ROWS_NAMED]]
        if count > len(named):
            named.append(f"and {count - len(named):,} more")
        super().__init__(
            code, ": ".join(filter(None, [message, "; ".join(named)])), hint=hint, where=where
        )
        self.what, self.rows, self.count, self.unit = message, tuple(rows), count, unit

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_rows, (self.problem(), self.where)

    def lines(self) -> list[str]:
        """Return the error as lines of text, one for each row that is named."""
        head, *rest = super().lines()
        if len(self.rows) < 2:
            return [head, *rest]
        rows = [f"  {row.text(self.unit)}" for row in self.rows]
        if self.count > len(rows):
            rows.append(f"  and {self.count - len(rows):,} more")
        return [f"error: {self.what}", *rows, *rest]

    def problem(self) -> dict[str, Any]:
        """Return the error as a problem document; `rows` names the first rows, `rows_bad` counts
        all."""
        return {
            **super().problem(),
            "what": self.what,
            "rows": [row._asdict() for row in self.rows],
            "rows_bad": self.count,
            "unit": self.unit,
        }

    def read(self, problem: Mapping[str, Any]) -> None:
        """Take the rows from a problem document."""
        self.what = str(problem.get("what", self.message))
        self.count, self.unit = int(problem.get("rows_bad", 0)), str(problem.get("unit", "row"))
        self.rows = tuple(
            BadRow(int(row["row"]), str(row["column"]), str(row["reason"]))
            for row in problem.get("rows", ())
        )


def _rebuild_rows(problem: Mapping[str, Any], where: str) -> "SextantError":
    error = BadRows(problem["code"], problem["title"], hint=problem["hint"], where=where)
    error.read(problem)
    return error


class WorldError(SextantError):
    """Something outside failed; the same call may work later."""

    exit_code = 3
    http_status = 503

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        where: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint, where=where)
        self.retry_after_s = retry_after_s


class StorageError(WorldError):
    """A disk or database refused; what was acknowledged before is safe."""


class Busy(WorldError):
    """Another process holds what is needed."""


class StepFailed(WorldError):
    """A step of a run failed; its log and attempts are kept."""


class Damaged(WorldError):
    """Stored data is not what was written."""


class MissingExtra(WorldError):
    """An optional part of the installation is not there; the hint is the command that installs
    it."""


class Bug(SextantError):
    """A promise inside Sextant was broken: please report it."""

    def problem(self) -> dict[str, Any]:
        """Return the error without what is inside: the server's log has it."""
        return {
            **super().problem(),
            "title": "a promise inside Sextant was broken",
            "hint": "please report it; the server's log says more",
            "where": "",
        }
