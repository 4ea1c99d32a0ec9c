"""Decides which ledger belongs to a project, signs its head and keeps witnesses of it.

Key and witness lie in the user's folders, the pin in `sextant.toml`: none of them in the database,
and none is found by anything that stands there. So who can change the database alone can neither
sign, nor rewind it, nor put another ledger in its place unseen.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sextant.core import Core
from sextant.kernel.errors import BadData, Conflict, Damaged, NotFound, SextantError
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Statement, Write
from sextant.project.config import FILE, Pin, is_ledger_id, read_config
from sextant.stores.files import locked
from sextant.stores.state import is_postgres

if TYPE_CHECKING:
    from sextant.ledger.checkpoint import Signer
    from sextant.ledger.witness import Witness

_ORIGIN = "sextant/"  # in front of the ledger's id, in checkpoints
_RELOADS = 3  # of the key while another process rotates it: it waits for that, so one is enough


class Anchor(NamedTuple):
    """The ledger that belongs to a project: its id, and a public key that its checkpoints go back
    to; "" when nothing outside of the database names one."""

    id: str
    public: str


class Sealing:
    """Pin, key, checkpoints and witness of one project.

    anchor   what belongs here, by the pin, else by the witness of this place, else (a ledger of an
             older version) by the database
    problem  why the database does not hold that; None when it does
    """

    def __init__(self, core: Core, home: Path | None = None) -> None:
        """home  folder for key and witness instead of the user's own: for tests"""
        self._core = core
        self._home = home
        self.pin = core.project.config.ledger
        self.problem: SextantError | None = None
        anchor = self._judge()
        if anchor is None:
            with locked(core.project.folder / "ledger"):  # several processes may open a new project
                self.pin = self._read_pin()
                anchor = self._judge() or self._begin()
        self.anchor = anchor

    # ------------------------------------------------------------ which ledger

    @property
    def project_id(self) -> str:
        return self.anchor.id

    @property
    def origin(self) -> str:
        return _ORIGIN + self.anchor.id

    @property
    def key_path(self) -> Path:
        return self._key_of(self.anchor.id)

    @property
    def witness_path(self) -> Path:
        """The witness of this place."""
        from sextant.app.pin import place_digest

        return self._witness_of(place_digest(self._core.project.config))

    @property
    def witness_paths(self) -> tuple[Path, Path]:
        """The witness of this place, and that of the ledger's id, which a moved folder has."""
        return self.witness_path, self._witness_of(self.anchor.id)

    @property
    def is_pinned(self) -> bool:
        return self.pin is not None and self.pin.id == self.anchor.id

    def _key_of(self, id_: str) -> Path:
        from sextant.ledger.checkpoint import default_key_path

        if self._core.project.config.key_file:
            return self._core.project.config.key_file
        return self._home / "keys" / f"{id_}.pem" if self._home else default_key_path(id_)

    def _witness_of(self, name: str) -> Path:
        from sextant.ledger.witness import default_witness_path

        if self._home:
            return self._home / "witness" / f"{name}.txt"
        return default_witness_path(name)

    def _read_pin(self) -> Pin | None:
        """Return the pin as the file has it now: another process may have written it."""
        try:
            return read_config(self._core.project.root).ledger
        except SextantError:  # the settings were given without a file
            return self._core.project.config.ledger

    def _stored_id(self) -> str:
        rows = self._core.state.read("meta_get", ("project_id",))
        return str(rows[0][0]) if rows else ""

    def _has_begun(self) -> bool:
        state = self._core.state
        return bool(state.read("event_head") or state.read("checkpoint_last"))

    def _judge(self) -> Anchor | None:
        """Return which ledger belongs here, None where one is to begin; set `problem`."""
        from sextant.ledger.witness import load_witness

        self.problem = None
        pin, stored, has_begun = self.pin, self._stored_id(), self._has_begun()
        seen: Witness | None = None
        try:
            seen = load_witness(self.witness_path)
        except BadData as error:
            self.problem = error
        if seen is not None:
            id_ = _id_of(seen)
            if pin is None and not has_begun and not seen.checkpoint().size:
                return None  # its beginning was cut short
            anchor = Anchor(id_, pin.public if pin is not None and pin.id == id_ else seen.public)
        elif pin is not None:
            if not has_begun and self._is_elsewhere(pin):
                return None
            anchor = Anchor(pin.id, pin.public)
            if not has_begun and is_postgres(self._core.project.config.state_address):
                self.problem = Damaged(
                    "SX-LEDGER-033",
                    f"the database holds no events, {FILE} pins ledger {pin.id}",
                    hint="it was emptied, or `state` and `schema` name another one; for a new "
                    "ledger take `ledger` out of the file",
                )
        elif has_begun:
            anchor = Anchor(stored, self._known_key(stored))
        elif self.problem is None:
            return None
        else:
            anchor = Anchor(stored, "")
        if self.problem is None:
            self.problem = self._mismatch(anchor, stored)
        if not stored and not has_begun and self.problem is None:
            self._core.state.commit(Write((Statement("meta_add", ("project_id", anchor.id)),)))
        return anchor

    def _mismatch(self, anchor: Anchor, stored: str) -> SextantError | None:
        if not is_ledger_id(anchor.id):
            return Damaged(
                "SX-LEDGER-032",
                f"the database gives its ledger the id `{anchor.id[:64]}`",
                hint="it was changed: restore it, `sextant backup restore`",
            )
        if stored == anchor.id or (not stored and not self._has_begun()):
            return None
        named = (
            f"{FILE} pins"
            if self.pin is not None and self.pin.id == anchor.id
            else "the witness of this place is of"
        )
        return Damaged(
            "SX-LEDGER-032",
            f"the database holds ledger `{stored[:64]}`, {named} `{anchor.id}`",
            where=str(self.witness_path) if self.witness_path.exists() else "",
            hint="it was replaced: restore it, `sextant backup restore`. If you put another "
            "project here yourself, remove the witness that is named here; if the pin is of "
            "another machine, `sextant ledger pin --local` keeps this ledger beside it",
        )

    def _known_key(self, id_: str) -> str:
        """Return the key that this user's witness of an id names: the witness of older versions."""
        from sextant.ledger.witness import load_witness

        if not is_ledger_id(id_):
            return ""
        try:
            seen = load_witness(self._witness_of(id_))
        except BadData as error:
            self.problem = error
            return ""
        return seen.public if seen is not None else ""

    def _is_elsewhere(self, pin: Pin) -> bool:
        """Say whether a pinned ledger is that of another machine: a local state, and neither its
        key nor a witness of it here."""
        from sextant.ledger.checkpoint import Signer

        if (
            is_postgres(self._core.project.config.state_address)
            or self._witness_of(pin.id).exists()
        ):
            return False
        path = self._key_of(pin.id)
        if not path.exists():
            return True
        try:
            return Signer.load(path).public != pin.public
        except SextantError:  # a key that cannot be read may be the one
            return False

    def _begin(self) -> Anchor:
        """Give a new ledger its id, its key, a witness of its empty head and, unless `sextant.toml`
        pins another machine's, the pin."""
        from sextant.ledger import merkle
        from sextant.ledger.checkpoint import Checkpoint, Signer
        from sextant.ledger.witness import Witness, keep_witness, load_witness

        core, pin, stored = self._core, self.pin, self._stored_id()
        seen = load_witness(self.witness_path)
        id_ = _id_of(seen) if seen is not None else stored
        if seen is None and (
            not is_ledger_id(stored)
            or (pin is not None and pin.id == stored)
            or self._witness_of(stored).exists()
        ):
            id_ = core.ids.new("prj")
        if id_ != stored:
            verb = "meta_set" if stored else "meta_add"
            core.state.commit(Write((Statement(verb, ("project_id", id_)),)))
            id_ = self._stored_id()  # of a shared database another machine may have been faster
        path = self._key_of(id_)
        signer = Signer.load(path) if path.exists() else Signer.create(path)
        empty = Checkpoint(_ORIGIN + id_, 0, merkle.EMPTY, core.clock.now_ns())
        keep_witness(self.witness_path, Witness(signer.public, signer.note(empty)))
        anchor = Anchor(id_, signer.public)
        if pin is None:
            self._write_pin(anchor)
        else:
            _say(
                f"note: {FILE} pins ledger {pin.id}, which is not on this machine: a ledger of its "
                f"own begins here, {id_}. The file stays as it is."
            )
        return anchor

    def _write_pin(self, anchor: Anchor) -> bool:
        """Pin the ledger. False where the file cannot be written: the lines to add are printed."""
        from sextant.app.pin import line_of, write_pin

        pin = Pin(id=anchor.id, public=anchor.public)
        try:
            write_pin(self._core.project.root, pin)
        except SextantError as error:
            _say(
                f"note: the ledger is not pinned: {error.message}\n"
                f"write on top of {FILE}: {line_of(pin)}"
            )
            return False
        self.pin = pin
        return True

    # ------------------------------------------------------------ key and checkpoints

    def public(self) -> str:
        """Return the public key of today: that of the anchor, or what rotations made of it; that of
        the key's file for a ledger that nothing outside names. "" without any."""
        from sextant.ledger.checkpoint import Signer, newest_key

        if self.anchor.public:
            return newest_key(self._core.state.read, self.anchor.public)
        try:
            return Signer.load(self.key_path).public if is_ledger_id(self.anchor.id) else ""
        except NotFound:
            return ""

    def signer(self) -> "Signer":
        """Return the ledger's key; made here only for a ledger without events.

        Raises  Damaged when the file holds another key than the ledger's; else as `open_signer`
        """
        from sextant.ledger.checkpoint import newest_key, open_signer

        if self.problem is not None:
            raise self.problem
        for _ in range(_RELOADS):
            signer = open_signer(self._core.state, self.key_path)
            if not self.anchor.public:
                return signer
            if signer.public == newest_key(self._core.state.read, self.anchor.public):
                return signer
        raise Damaged(
            "SX-LEDGER-034",
            "the file of the ledger's signing key holds another key than the ledger's",
            where=str(self.key_path),
            hint="put the ledger's key back: `key.pem` of a backup is a copy",
        )

    def confirm(self) -> None:
        """Check that the database holds the ledger that belongs here: its id, the key of its newest
        checkpoint, and what this user saw last.

        Raises  Damaged when it was replaced, rewound, rewritten or signed by another key
        Cost    1 ms at 1 M events
        """
        from sextant.ledger.witness import confirm, keep_witness

        if self.problem is not None:
            raise self.problem
        place, by_id = self.witness_paths
        try:
            for path in (place, by_id):
                seen = confirm(self._core.state.read, path)
                if seen is not None and path == by_id and not place.exists():
                    keep_witness(place, seen)  # an older version kept it, or the folder was moved
            self._confirm_key()
        except (TypeError, ValueError, LookupError) as error:
            raise Damaged(
                "SX-LEDGER-035",
                f"what the ledger holds cannot be read: {error}",
                hint="`sextant ledger verify` says more",
            ) from error

    def _confirm_key(self) -> None:
        from sextant.ledger.checkpoint import keys_by_size, newest_key, read_note
        from sextant.ledger.gaps import key_at

        read = self._core.state.read
        rows = read("checkpoint_last")
        if not self.anchor.public:
            return
        if not rows:
            if self._has_begun() and self.seen() is None:
                # a command that was killed before it signed leaves a witness of the empty head
                raise Damaged(
                    "SX-LEDGER-039",
                    "no event of the ledger is signed, and there is no witness of it here",
                    hint="if you know why, `sextant ledger pin` verifies and signs it as it is",
                )
            return
        size, note, _ = rows[0]
        try:
            keys = keys_by_size(read, newest_key(read, self.anchor.public))
            checkpoint = read_note(note, key_at(keys, size))
        except BadData as error:
            raise Damaged(
                "SX-LEDGER-036",
                f"the newest checkpoint is not signed by the ledger's key: {error.message}",
                hint="the database was replaced, or the pin is of another key: `sextant ledger "
                "verify` says more",
            ) from error
        if checkpoint.origin != self.origin:
            raise Damaged(
                "SX-LEDGER-036",
                "the newest checkpoint is of another ledger",
                hint="the database was replaced: `sextant ledger verify` says more",
            )

    def seen(self) -> "Witness | None":
        """Return the newest witness that this user has of the ledger."""
        from sextant.ledger.witness import load_witness

        found = [w for w in map(load_witness, self.witness_paths) if w is not None]
        return max(found, key=lambda witness: witness.checkpoint().size, default=None)

    def checkpoint(self) -> str:
        """Sign the head if it has moved, and keep it as this user's witness. Returns the newest
        note, "" for an empty ledger."""
        from sextant.ledger.checkpoint import sign_head
        from sextant.ledger.witness import Witness

        signer = self.signer()
        try:
            note = sign_head(self._core.state, signer, origin=self.origin, clock=self._core.clock)
        except Conflict:  # another process rotated the key after it was read here
            signer = self.signer()
            note = sign_head(self._core.state, signer, origin=self.origin, clock=self._core.clock)
        if note is None:
            rows = self._core.state.read("checkpoint_last")
            return str(rows[0][1]) if rows else ""
        self._keep(Witness(signer.public, note))
        return note

    # ------------------------------------------------------------ what changes key and pin

    def rotate(self, by: Principal) -> "Signer":
        """Replace the key, and pin the new one where the old one is pinned. A ledger that was never
        signed and has no key gets its first one."""
        from sextant.ledger.checkpoint import Signer, rotate
        from sextant.ledger.witness import Witness

        core = self._core
        if self._is_unsigned() and not self.anchor.public and not self.key_path.exists():
            Signer.create(self.key_path)
        new = rotate(
            core.state,
            self.signer(),
            origin=self.origin,
            clock=core.clock,
            ids=core.ids,
            actor=str(by),
        )
        if self.is_pinned:
            self._write_pin(Anchor(self.anchor.id, new.public))
        self._keep(Witness(new.public, str(core.state.read("checkpoint_last")[0][1])))
        return new

    def _keep(self, witness: "Witness") -> None:
        from sextant.ledger.witness import keep_witness

        for path in self.witness_paths:
            keep_witness(path, witness)

    def _is_unsigned(self) -> bool:
        return not self._core.state.read("checkpoint_last")

    def take(self, by: Principal, *, local: bool = False) -> Pin:
        """Make the ledger that stands in the database the one that belongs here, and return its
        pin: the explicit act of somebody who trusts it as it is. It is an event.

        local   keep it by the witness of this place only: `sextant.toml` stays, which pins another
                machine's
        Raises  NotFound without its key; Damaged when it does not verify, with that key and with
                the witness
        """
        from sextant.ledger.checkpoint import Signer, sign_head
        from sextant.ledger.verify import verify

        core, stored = self._core, self._stored_id()
        core.authorization.allow(by, "pin", None, "")
        if not is_ledger_id(stored):
            raise self.problem or Damaged(
                "SX-LEDGER-032",
                f"the database gives its ledger the id `{stored[:64]}`",
                hint="it was changed: restore it, `sextant backup restore`",
            )
        before, self.anchor = self.anchor, Anchor(stored, "")
        signer = Signer.load(self.key_path)
        if self._is_unsigned():
            sign_head(core.state, signer, origin=self.origin, clock=core.clock)
        report = verify(core.state, public=signer.public, witness=self.seen(), origin=self.origin)
        if not report.ok:
            raise Damaged(
                "SX-LEDGER-037",
                f"the ledger is not pinned: {report.findings[0].message}",
                hint="`sextant ledger verify` lists everything; if the witness is that of another "
                f"project that was here, remove {self.witness_path}",
            )
        self.anchor, self.problem = Anchor(stored, signer.public), None
        data = {
            "id": stored,
            "public": signer.public,
            "before": before.id,
            "before_public": before.public,
            "local": local,
        }
        core.state.commit(
            Write((), (core.events.make("ledger.pinned", "ledger:pin", data, by, ""),))
        )
        self.checkpoint()
        if not local:
            from sextant.app.pin import write_pin

            write_pin(core.project.root, Pin(id=stored, public=signer.public))
            self.pin = Pin(id=stored, public=signer.public)
        return Pin(id=stored, public=signer.public)

    # ------------------------------------------------------------ what is wrong

    def findings(self) -> list[tuple[str, str]]:
        """Return (what it is about, what is wrong) with pin, id and key: what `ledger verify` says
        beyond the log itself."""
        from sextant.ledger.checkpoint import Signer

        out: list[tuple[str, str]] = []
        problem = self.problem or self._mismatch(self.anchor, self._stored_id())
        if problem is not None:
            out.append(("ledger", problem.message))
        if not self._has_begun() or not is_ledger_id(self.anchor.id):
            return out
        try:
            public = self.public()
        except SextantError as error:
            return [*out, ("key", error.message)]
        try:
            if Signer.load(self.key_path).public != public:
                out.append(
                    ("key", "the file of the signing key holds another key than the ledger's")
                )
        except SextantError as error:
            out.append(("key", error.message))
        pin = self._read_pin()
        if pin is not None and pin.id == self.anchor.id and pin.public != public:
            stale = self._leads_to(pin.public, public)
            out.append(
                (
                    "pin",
                    f"the key that {FILE} pins was replaced by a rotation: `sextant ledger pin` "
                    "pins today's"
                    if stale
                    else f"the ledger is signed by another key than {FILE} pins",
                )
            )
        return out

    def _leads_to(self, old: str, public: str) -> bool:
        from sextant.ledger.checkpoint import newest_key

        return newest_key(self._core.state.read, old) == public

    def state_of_pin(self) -> tuple[bool, str]:
        """Return whether the pin is as it should be, and how it is, in words."""
        pin = self._read_pin()
        if pin is None:
            return False, f"{FILE} does not say which ledger is this project's"
        if pin.id != self.anchor.id:
            return True, (
                f"{FILE} pins ledger {pin.id} of another machine; {self.anchor.id} is kept by the "
                "witness of this place"
            )
        if pin.public != self.public():
            return False, f"{FILE} pins a key that was replaced"
        return True, f"ledger {pin.id}"

    def without_paths(self, text: str) -> str:
        """Return a text without the places of key and witness, for who may not know them."""
        place, by_id = self.witness_paths
        for path, name in (
            (self.key_path, "the key's file"),
            (place, "the witness's file"),
            (by_id, "the witness's file"),
        ):
            text = text.replace(str(path), name)
        return text


def _id_of(witness: "Witness") -> str:
    return witness.checkpoint().origin.removeprefix(_ORIGIN)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def set_aside_witness(config_root: Path) -> Path | None:
    """Move the witness of a place out of the way, for who makes a new project there; return where
    it went, None when there is none."""
    from sextant.app.pin import place_digest
    from sextant.ledger.witness import default_witness_path

    path = default_witness_path(place_digest(read_config(config_root)))
    if not path.exists():
        return None
    aside = path.with_name(f"{path.stem}.{path.stat().st_mtime_ns}.old")
    path.rename(aside)
    return aside
