"""The pin of a project: id and public key of its ledger, in the table `[ledger]` of `sextant.toml`.

It stands outside of the database, so who can change the database alone cannot put another ledger in
the place of this one.
"""

import os
import tomllib
from hashlib import sha256
from pathlib import Path

import msgspec

from sextant.app.config import FILE, Config, Pin
from sextant.kernel.errors import UserError
from sextant.stores import files
from sextant.stores.state import place_of

_COMMENT = "The ledger of this project, written by Sextant: `sextant ledger pin` changes it."


def lines(pin: Pin) -> list[str]:
    """Return the pin as lines of `sextant.toml`."""
    return ["[ledger]", f'id = "{pin.id}"', f'public = "{pin.public}"']


def write_pin(root: Path, pin: Pin) -> None:
    """Put the pin into the `sextant.toml` of folder `root`, atomically; comments, order and mode of
    the file stay.

    Raises  StorageError where the file cannot be written; UserError where adding the table would
            change something else. The file is then as it was.
    """
    import tomlkit

    path = (root / FILE).resolve()
    try:
        text = path.read_bytes().decode()
        document = tomlkit.parse(text)
        table = document.get("ledger")
        if table is None:
            table = tomlkit.table()
            if document.body:
                document.add(tomlkit.nl())
            table.add(tomlkit.comment(_COMMENT))
            document.add("ledger", table)
        table["id"], table["public"] = pin.id, pin.public
        new = tomlkit.dumps(document)
        if "\r\n" in text:
            new = new.replace("\r\n", "\n").replace("\n", "\r\n")
        expected = {**tomllib.loads(text), "ledger": msgspec.to_builtins(pin)}
        if tomllib.loads(new) != expected:
            raise UserError(
                "SX-CONF-007",
                f"the ledger's table cannot be added to {FILE}",
                hint=f"add these lines yourself: {'; '.join(lines(pin))}",
                where=str(path),
            )
        if new == text:
            return
        partial = path.with_name(f".{FILE}.{os.getpid()}")
        try:
            mode = path.stat().st_mode & 0o777
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(new.encode())
                file.flush()
                os.fsync(descriptor)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        files.sync_folder(str(path.parent))
    except OSError as error:
        raise files.refused(error, str(path)) from error


def remove_pin(root: Path) -> None:
    """Take the pin out of a copy of a project, which is to have a ledger of its own."""
    import tomlkit

    path = root / FILE
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    if document.pop("ledger", None) is not None:
        path.write_text(tomlkit.dumps(document), encoding="utf-8")


def place_digest(config: Config) -> str:
    """Return the name by which a place is known: digest of the project's resolved folder and of
    where its state lies."""
    state = place_of(config.state_address, config.schema)
    return sha256(f"{config.root.resolve()}\n{state}".encode()).hexdigest()[:32]
