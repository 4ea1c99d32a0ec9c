"""The state store: one schema and one file of statements over SQLite and over Postgres, one
group-commit writer for both.

`open_state` is the way in. Layers above use the port `State`; what looks after the store (verify,
rebuild, erase, backup)
uses `StateStore`.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sextant.kernel import extras
from sextant.kernel.clock import Clock
from sextant.kernel.ports import Row, Sealer, State


class StateReader(Protocol):
    """A state to look at."""

    # a file's path or a libpq connection string with the schema: `open_reader` takes it in another
    # process
    address: str

    def read(self, name: str, params: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a named query, as of the newest commit. Any thread."""
        ...

    def rows(self, table: str) -> Iterator[list[Row]]:
        """Return all rows of a table in pages, sorted by all columns from the first, text by code
        point."""
        ...

    def integrity(self) -> list[str]:
        """Return what the database itself finds wrong."""
        ...

    def close(self) -> None: ...


class StateStore(State, StateReader, Protocol):
    """A state as those see it who look after it."""

    def refill(
        self,
        emptied: Sequence[str],
        rows: Iterable[tuple[str, Sequence[Any]]],
        *,
        mark: tuple[str, str],
        once: bool = False,
    ) -> None:
        """Empty these tables and run these statements instead, and set `mark`, a key and value of
        `meta`, in one transaction; other writers wait meanwhile.

        rows  are asked for inside the transaction
        once  do nothing when the mark is set already: another process was faster
        """
        ...

    def scrub(self) -> None:
        """Overwrite what was deleted."""
        ...

    def backup(self, target: Path) -> None:
        """Copy everything, as of one moment and while others write, into a new SQLite state
        file."""
        ...


class ScratchState(Protocol):
    """An empty state to fill and to compare with a real one."""

    def apply(self, rows: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run these statements."""
        ...

    def rows(self, table: str) -> Iterator[list[Row]]: ...

    def close(self) -> None: ...


def open_state(
    address: str | Path, sealer: Sealer, *, clock: Clock, schema: str = "sextant"
) -> StateStore:
    """Open (or make) a state.

    address  path of a SQLite file, or a libpq connection string (`postgresql://...`, `host=...`)
    schema   the Postgres schema, one per project
    Raises   MissingExtra for Postgres without its client
    """
    if is_postgres(address):
        extras.need("postgres")
        from sextant.stores.state.postgres import PostgresState

        return PostgresState(str(address), sealer, clock=clock, schema=schema)
    from sextant.stores.state.sqlite import SqliteState

    return SqliteState(Path(address), sealer, clock=clock)


def is_postgres(address: str | Path) -> bool:
    """Tell whether an address is a libpq connection string."""
    text = str(address)
    return text.startswith(("postgresql://", "postgres://")) or (
        isinstance(address, str) and "=" in text and "/" not in text.partition("=")[0]
    )


def place_of(address: str | Path, schema: str = "sextant") -> str:
    """Return a text that means the same state as long as it stays where it is: the resolved path of
    a file; host, port, database and schema of a server."""
    if is_postgres(address):
        extras.need("postgres")
        from sextant.stores.state.postgres import place_of as place_in_postgres

        return place_in_postgres(str(address), schema)
    return str(Path(address).resolve())


def open_reader(address: str) -> StateReader:
    """Open an existing state, as `StateReader.address` names it, for reading only."""
    if is_postgres(address):
        extras.need("postgres")
        from sextant.stores.state.postgres import PostgresReader

        return PostgresReader(address)
    from sextant.stores.state.sqlite import SqliteReader

    return SqliteReader(Path(address))


def scratch() -> ScratchState:
    """Return an empty state in memory and temporary files."""
    from sextant.stores.state.sqlite import Scratch

    return Scratch()
