"""`sx.open`: a project's data in a notebook or a script, as the frame that it likes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from sextant.kernel.errors import UsageError

if TYPE_CHECKING:
    from sextant.app.operations import Platform

Frame = Literal["polars", "pandas", "pyarrow"]


class Opened:
    """A project, in its folder or at a server. Close it, or use it in a `with`."""

    def __init__(self, platform: "Platform", env: str, close: Callable[[], None]) -> None:
        self.platform = platform
        self._env, self._close = env, close

    def data(
        self,
        name: str,
        *,
        as_of: str = "",
        partition: str = "",
        columns: Sequence[str] = (),
        env: str = "",
        frame: Frame = "polars",
    ) -> Any:
        """Return the rows of a dataset as a frame.

        as_of      a version by its first digits, or what was live at a time ("2026-01-31",
                   "2026-01-31T12:00Z"); "" = what is live
        partition  only its rows;  columns  only these, in this order;  env  another environment
                   than that of `open`
        frame      polars, pandas (when it is installed) or pyarrow
        """
        return _framed(
            self.platform.rows(
                name,
                form="ArrowStream",
                as_of=as_of,
                partition=partition,
                columns=columns,
                env=env or self._env,
            ),
            frame,
        )

    def query(
        self, sql: str, *, params: "dict[str, str] | None" = None, frame: Frame = "polars"
    ) -> Any:
        """Return the answer to a question in ClickHouse's SQL over data, telemetry, ledger and KPIs
        as a frame. `params` bind `{name:Type}`."""
        return _framed(self.platform.query(sql, form="ArrowStream", params=params), frame)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open(project: "str | Path" = ".", *, token: str = "", env: str = "") -> Opened:  # noqa: A001 - `sx.open`
    """Open a project to read from it.

    project  its folder (or one below it), or the address of a server (http://...). With
             SEXTANT_SERVER set, "." means that server
    token    for a server; "" = SEXTANT_TOKEN
    env      the environment that is meant; "" = the one that the project names
    Raises   NotFound where no project is; errors of a server when something is asked of it
    """
    address = str(project)
    if address == "." and os.environ.get("SEXTANT_SERVER"):
        address = os.environ["SEXTANT_SERVER"]
    if address.startswith(("http://", "https://")):
        from sextant.app.remote import connect

        there = connect(address, token or os.environ.get("SEXTANT_TOKEN", ""))
        return Opened(there, env, there.close)
    from sextant.app.operations import Operations
    from sextant.app.platform import LocalPlatform

    here = LocalPlatform.open(Path(address), load=False)
    return Opened(Operations(here), env, here.close)


def _framed(stream: bytes, frame: str) -> Any:
    import pyarrow as pa

    table = pa.ipc.open_stream(stream).read_all()
    if frame == "pyarrow":
        return table
    if frame == "pandas":
        try:
            return table.to_pandas()
        except ModuleNotFoundError as error:
            raise UsageError(
                "SX-EXPORT-006",
                "pandas is not installed here",
                hint="pip install pandas; or take the Polars frame",
            ) from error
    if frame == "polars":
        import polars as pl

        return pl.from_arrow(table)
    raise UsageError(
        "SX-EXPORT-007", f"there is no frame `{frame}`", hint="polars, pandas or pyarrow"
    )
