"""The pin of a project: id and public key of its ledger, as `ledger = { ... }` in `sextant.toml`.

It stands outside of the database, so who can change the database alone cannot put another ledger in
the place of this one.
"""

import os
import tomllib
from hashlib import sha256
from pathlib import Path

import msgspec

from sextant.kernel.errors import UserError
from sextant.project.config import FILE, Config, Pin
from sextant.stores import files
from sextant.stores.state import place_of

_COMMENT = "written by Sextant; `sextant ledger pin` changes it"


def line_of(pin: Pin) -> str:
    """Return the pin as a line of `sextant.toml`, above its first table."""
    return f'ledger = {{ id = "{pin.id}", public = "{pin.public}" }}'


def write_pin(root: Path, pin: Pin) -> None:
    """Put the pin into the `sextant.toml` of folder `root`, atomically; comments, order and mode of
    the file stay.

    Raises  StorageError where the file cannot be written; UserError where adding the table would
            change something else. The file is then as it was.
    """
    import tomlkit
    from tomlkit.items import AoT, Table

    path = (root / FILE).resolve()
    try:
        text = path.read_bytes().decode()
        document = tomlkit.parse(text)
        table = document.get("ledger")
        if table is None:
            # not `[ledger]`: settings that people append to the file would become part of it
            table = tomlkit.inline_table()
            table.update({"id": pin.id, "public": pin.public})
            table.comment(_COMMENT)
            plain = [
                key
                for key, item in document.body
                if key is not None and not isinstance(item, Table | AoT)
            ]
            if plain:  # so that a comment in front of a table stays there
                document._insert_after(plain[-1], "ledger", table)
            else:
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
                hint=f"write it above the first table of the file: {line_of(pin)}",
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
