"""The store of accounts, tokens and sessions, and files of older versions of it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sextant.kernel.errors import Conflict, Damaged
from sextant.kernel.limits import SESSIONS_PER_PERSON_MAX
from sextant.stores.accounts.records import Account, Link, Session, Token
from sextant.stores.accounts.sqlite import AccessStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AccessStore]:
    made = AccessStore(tmp_path / "access.db")
    yield made
    made.close()


def token(id_: str, **more: Any) -> Token:
    return Token(
        **{
            "id": id_,
            "hash": id_.encode(),
            "name": id_,
            "kind": "agent",
            "role": "viewer",
            "scopes": ("api", "query"),
            "teams": ("data", "shop"),
            "on_behalf_of": "",
            "made_by": "ann",
            "created_at": 1,
            "expires_at": 9,
            **more,
        }
    )


def test_records_come_back_as_they_were_kept(store: AccessStore) -> None:
    """If this fails, a field of an account, token or session is lost or exchanged with another."""
    ann = Account(name="ann", role="admin", teams=("data",), password="hash", created_at=7)
    store.add_account(ann)
    assert store.account("ann") == ann
    assert store.accounts() == [ann]
    with pytest.raises(Conflict):
        store.add_account(ann)
    one = token("a", root="person:ann", parent="account:ann", used_at=3)
    store.add_token(one)
    assert store.token_by_hash(b"a") == one
    assert store.tokens() == [one]
    session = Session(
        hash=b"s", id="ses_1", person="ann", how="link", csrf="c", created_at=1, expires_at=5
    )
    store.add_session(session, now=2)
    assert store.session(b"s") == session
    later = msgspec.structs.replace(session, hash=b"t", id="ses_2", created_at=6, expires_at=9)
    store.add_session(later, 6)
    assert store.sessions(7) == [later]
    assert store.sessions(9) == []
    assert store.session(b"s") is None, "an expired session goes when another begins"
    assert store.disable_account("ann", 8)
    assert not store.disable_account("ann", 8)
    assert store.session(b"t") is None


def test_a_link_is_taken_once(store: AccessStore) -> None:
    """If this fails, a link opens twice, or after its time."""
    early, late = (Link(hash=bytes([n]), person="ann", expires_at=n) for n in (5, 9))
    store.add_link(early, now=1)
    store.add_link(late, now=1)
    assert store.take_link(late.hash, now=8) == late
    assert store.take_link(late.hash, now=8) is None
    assert store.take_link(early.hash, now=5) is None
    store.add_link(early, now=1)
    store.add_link(late, now=6)
    assert store.take_link(early.hash, now=2) is None, "an expired link goes when another is made"


def test_sessions_end_when_there_are_too_many(store: AccessStore) -> None:
    """If this fails, sessions of one person pile up, or somebody else's end."""
    session = Session(
        hash=b"", id="ses_0", person="bob", how="password", csrf="c", created_at=1, expires_at=9
    )
    store.add_session(session, now=1)
    for n in range(SESSIONS_PER_PERSON_MAX + 2):
        one = {"hash": bytes([n]) + b"a", "id": f"ses_a{n}", "person": "ann", "created_at": n + 2}
        store.add_session(msgspec.structs.replace(session, **one), now=1)
    kept = {one.id for one in store.sessions(1)}
    assert len(kept) == SESSIONS_PER_PERSON_MAX + 1
    assert kept.isdisjoint({"ses_a0", "ses_a1"})
    assert store.end_session("ses_0")
    assert not store.end_session("ses_0")


def test_tokens_hang_on_those_that_they_were_made_with(store: AccessStore) -> None:
    """If this fails, a token outlives the one it was made with, or answers to the wrong person."""
    for one in (
        token("a", root="person:ann"),
        token("b", root="person:ann", parent="a", on_behalf_of="person:ann"),
        token("c", root="person:ann", parent="b"),
        token("d", root="person:bob"),
    ):
        store.add_token(one)
    assert [one.id for one in store.line("c", 10)] == ["c", "b", "a"]
    assert [one.id for one in store.line("c", 2)] == ["c", "b"]
    assert store.beneath("b") == {"b", "c"}
    store.place_token("b", "person:eve", "d")
    seen = {one.id: (one.root, one.parent, one.on_behalf_of) for one in store.tokens()}
    assert seen == {
        "a": ("person:ann", "", ""),
        "b": ("person:eve", "d", "person:eve"),
        "c": ("person:eve", "b", ""),
        "d": ("person:bob", "", ""),
    }
    assert store.revoke_token("b", 4)
    assert not store.revoke_token("b", 5)
    store.token_used("b", 6)
    (b,) = (one for one in store.tokens() if one.id == "b")
    assert (b.revoked_at, b.used_at) == (4, 6)


def test_a_file_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    """If this fails, nobody can come in after an upgrade."""
    path = tmp_path / "access.db"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE token (id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT "
            "NULL, kind TEXT NOT NULL, role TEXT NOT NULL, scopes TEXT NOT NULL, teams TEXT NOT "
            "NULL, on_behalf_of TEXT NOT NULL, made_by TEXT NOT NULL, created_at INTEGER NOT NULL, "
            "expires_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL, used_at INTEGER NOT NULL);"
            "INSERT INTO token VALUES ('a', x'61', 'a', 'agent', 'viewer', 'api query', "
            "'data shop', '', 'ann', 1, 9, 0, 0);"
            "PRAGMA user_version = 1;"
        )
    db.close()
    store = AccessStore(path)
    assert store.tokens() == [token("a")]
    assert store.accounts() == []
    store.close()
    AccessStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 4")
    db.close()
    with pytest.raises(Damaged, match="newer"):
        AccessStore(path)
