"""What people upload from folders of their own: taken as it is said, or refused with nothing kept."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant import testing
from sextant.app import keeping
from sextant.app.operations import Operations
from sextant.kernel.answers import Uploaded
from sextant.kernel.errors import Busy, Conflict, Denied, NotFound, ProjectError, UserError
from sextant.kernel.nouns import Principal
from sextant.project import bundle, loading, uploads
from sextant.project.bundle import is_path
from test_project_versions import ANN, BOB, EVE, HEAD, ORDERS, REVIEWED, in_force, run

AT = datetime(2026, 1, 5, tzinfo=UTC)
TOML = b'module = "ops"\n'
BODY = HEAD + REVIEWED + ORDERS
EDITED = BODY.replace("[1, 2]", "[1, 2, 3]")


@pytest.fixture
def p() -> Any:
    with testing.platform({"ops.py": BODY}, at=AT, user="ann") as one:
        run(one, env="dev")
        with pytest.raises(Denied, match="waits"):
            run(one)
        Operations(one, BOB).approve(next(iter(one.runs.releases.open())).id)
        run(one)
        Operations(one, BOB).create_environment("pr-7", "prod", keep="3d")
        yield one


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_of(p: Any, **changed: bytes) -> dict[str, bytes]:
    """Return path -> content of the folder's files, some changed (`ops_py` is `ops.py`)."""
    root: Path = p.core.project.root
    found = {path: (root / path).read_bytes() for path in bundle.scan(root)}
    return found | {name.replace("_py", ".py"): content for name, content in changed.items()}


def send(p: Any, files: dict[str, bytes], by: Principal = BOB, **more: Any) -> Uploaded:
    """Upload as the command does: what is missing, until nothing is."""
    more = {"env": "pr-7", "python": loading.python(), **more}
    listed = {path: digest(content) for path, content in files.items()}
    done = Operations(p, by).upload(listed, **more)
    if done.missing:
        contents = {digest(c): c for c in files.values() if digest(c) in done.missing}
        done = Operations(p, by).upload(listed, contents=contents, **more)
    return done


def untouched(p: Any) -> tuple[Any, ...]:
    """Return what an upload that is refused leaves as it was."""
    p.core.state.flush()
    blobs = {one.name for one in p.core.blobs.root.rglob("*") if one.is_file()}
    versions = [one["version"] for one in Operations(p).versions("project").items]
    return blobs, versions, in_force(p), in_force(p, "pr-7"), dict(p.runs.project.uploads._held)


def test_what_was_uploaded_runs_where_it_was_meant_for(p: Any) -> None:
    """If this fails, who works against a server cannot try a change, or it reaches others."""
    before = in_force(p)
    done = send(p, files_of(p, ops_py=EDITED.encode()), commit="a" * 40, uncommitted=["ops.py"])
    assert in_force(p, "pr-7") == before, "in force nowhere before it is released"
    moved = Operations(p, BOB).project_move(version=done.version, env="pr-7")
    assert moved is not None and (moved.commit, moved.uncommitted) == ("a" * 40, ("ops.py",))
    assert moved.changes["changed"] == {"dataset:orders": ["code"]}
    plan = Operations(p, BOB).plan(version=done.version, stale=True, env="pr-7")
    assert [step.asset for step in plan.steps] == ["dataset:orders"]
    report = run(p, BOB, "pr-7", version=done.version, stale=True)
    assert (report.state, report.project) == ("finished", done.version)
    live = p.core.versions.live_version("pr-7", "dataset:orders")
    assert p.core.versions.get("dataset:orders", live).rows == 3
    assert in_force(p) == before != in_force(p, "pr-7")
    event = next(
        one
        for one in Operations(p).events(type="version.created").items
        if one["subject"] == f"project:shop@{done.version}"
    )
    assert event["actor"] == "person:bob"
    assert send(p, files_of(p, ops_py=EDITED.encode())) == done, "once more is the same"


def test_only_what_is_missing_is_asked_for(p: Any) -> None:
    """If this fails, every try sends the whole project, or a file that nobody has is not asked."""
    files = files_of(p, ops_py=EDITED.encode())
    listed = {path: digest(content) for path, content in files.items()}
    ask = Operations(p, BOB).upload(listed, python=loading.python(), env="pr-7")
    assert ask == Uploaded(missing=(listed["ops.py"],))
    done = send(p, files)
    again = files | {"more.py": b"x = 1\n"}
    listed["more.py"] = digest(b"x = 1\n")
    ask = Operations(p, BOB).upload(listed, python=loading.python(), env="pr-7")
    assert ask.missing == (listed["more.py"],), "also what was only uploaded is known"
    assert send(p, again).version != done.version


def test_an_upload_in_parts(p: Any) -> None:
    """If this fails, a project of many files cannot be uploaded, or parts of two are mixed."""
    files = files_of(p) | {f"part{n}.py": f"n = {n}\n".encode() for n in range(4)}
    listed = {path: digest(content) for path, content in files.items()}
    for n in range(4):
        content = files[f"part{n}.py"]
        one = {digest(content): content}
        more = {"python": loading.python(), "env": "pr-7", "contents": one}
        done = Operations(p, BOB).upload(listed, **more)
        assert len(done.missing) == 3 - n
        if n == 1:  # what another one has sent is not taken for bob's
            other = Operations(p, ANN).upload(listed, python=loading.python(), env="pr-7")
            assert len(other.missing) == 4
    assert done.version
    assert not p.runs.project.uploads._held


def test_who_may_not_release_may_not_upload(p: Any) -> None:
    """If this fails, somebody whom the rules keep out has code loaded at the server."""
    before = untouched(p)
    files = files_of(p, ops_py=b"raise SystemExit\n")
    with pytest.raises(Denied, match="eve"):
        viewer = Principal(name="eve", role="viewer", scopes=("api",))
        send(p, files, viewer)
    stranger = Principal(name="eve", role="operator", scopes=("api",))
    with pytest.raises(Denied, match="what a team owns"):
        send(p, files, stranger)
    assert untouched(p) == before
    assert EVE.name == "eve"


PATHS = [
    "../ops.py",
    "/etc/ops.py",
    "a/../../b.py",
    "./ops.py",
    "a//b.py",
    "a\\b.py",
    "c:ops.py",
    "a\nb.py",
    "a\0b.py",
    "a/" * 3000 + "b.py",
    "x" * 300 + ".py",
    "",
]


@pytest.mark.parametrize("path", PATHS, ids=[ascii(one)[:20] for one in PATHS])
def test_paths_that_lead_elsewhere(p: Any, path: str) -> None:
    """If this fails, an upload writes beside its folder."""
    before = untouched(p)
    with pytest.raises(UserError, match="no path of a file") as caught:
        send(p, files_of(p) | {path: b"x = 1\n"})
    assert "\n" not in caught.value.message and len(caught.value.message) < 500
    assert untouched(p) == before


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_a_path_stays_below_its_folder(path: str) -> None:
    """If this fails, a text that is taken for a path leads out of a folder, or has two readings."""
    if is_path(path):
        assert Path("/top", path).resolve(strict=False).is_relative_to("/top")
        assert str(Path("/top") / path) == f"/top/{path}"
        assert path == path.encode().decode() and "\n" not in path and "\0" not in path


def refused(p: Any, match: str, files: dict[str, bytes], **more: Any) -> Any:
    before = untouched(p)
    with pytest.raises((UserError, Busy), match=match) as caught:
        send(p, files, **more)
    held = untouched(p)[-1]
    assert untouched(p)[:-1] == before[:-1]
    p.runs.project.uploads._held.clear()
    return caught.value, held


def test_what_is_refused(p: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an upload that cannot be right leaves something behind, or moves something."""
    edited = files_of(p, ops_py=EDITED.encode())
    refused(p, "both a file and a folder", edited | {"a": b"", "a/b.py": b""})
    refused(p, "comes from `cpython 2.7`", edited, python="cpython 2.7")
    refused(p, "no commit of git", edited, commit="$(id)")
    refused(p, "no part of the project's bundle", edited | {"data.parquet": b"PAR1"})
    refused(p, "no part of the project's bundle", edited | {".env": b"A=1"})
    refused(p, "no part of the project's bundle", edited | {".sextant/secrets.toml": b""})
    refused(p, "an upload has 1 to", {})
    refused(p, "there is no sextant.toml", {"ops.py": EDITED.encode()})
    refused(p, "syntax error", files_of(p, ops_py=b"def\n"))
    refused(p, "raised ZeroDivisionError", files_of(p, ops_py=b"1 / 0\n"))
    refused(p, "what is recorded here", files_of(p, ops_py=EDITED.replace("shop", "b").encode()))
    monkeypatch.setattr(uploads, "UPLOAD_BYTES_MAX", 100)
    refused(p, "bytes of files at once", edited)
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "BUNDLE_FILES_MAX", 1)
    refused(p, "an upload has 1 to 1", edited)
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "BUNDLE_BYTES_MAX", len(EDITED) + 10)
    refused(p, "more than a bundle may have", edited | {"more.py": b"# " + b"x" * 20})
    refused(p, "sent more than a bundle", edited | {"more.py": b"# " + b"x" * 2000})
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "UPLOADS_HELD_BYTES_MAX", 100)
    refused(p, "hold all the memory", edited)


def test_a_wrong_digest(p: Any) -> None:
    """If this fails, what was changed on the way is run."""
    listed = {path: digest(content) for path, content in files_of(p).items()}
    listed["ops.py"] = "0" * 64
    more: dict[str, Any] = {"python": loading.python(), "env": "pr-7"}
    before = untouched(p)
    with pytest.raises(UserError, match="another digest"):
        Operations(p, BOB).upload(listed, contents={"0" * 64: EDITED.encode()}, **more)
    with pytest.raises(UserError, match="no SHA-256"):
        Operations(p, BOB).upload(listed | {"ops.py": "../../etc/passwd"}, **more)
    assert Operations(p, BOB).upload(listed, **more).missing == ("0" * 64,)
    assert untouched(p) == before


def test_a_secret_is_not_stored(p: Any) -> None:
    """If this fails, a key that was pasted into a file is kept for good, on a server too."""
    key = "ghp_" + "a1B2" * 9
    text = EDITED + f'\nKEY = "{key}"\n'
    error, held = refused(
        p, "looks like secrets: `ops.py:.*a token of GitHub", files_of(p, ops_py=text.encode())
    )
    assert key not in error.message
    assert held, "in memory, for its time, and nowhere else"
    text = EDITED + f'\nKEY = "{key}"  # not a secret: an example\n'
    assert send(p, files_of(p, ops_py=text.encode())).version


def test_what_waits_is_forgotten(p: Any) -> None:
    """If this fails, an upload that nobody ended holds memory for ever."""
    files = files_of(p) | {"a.py": b"a = 1\n", "b.py": b"b = 1\n"}
    listed = {path: digest(content) for path, content in files.items()}
    more: dict[str, Any] = {"python": loading.python(), "env": "pr-7"}
    Operations(p, BOB).upload(listed, contents={listed["a.py"]: files["a.py"]}, **more)
    p.core.clock.wait(uploads.UPLOAD_S + 1)
    done = Operations(p, BOB).upload(listed, contents={listed["b.py"]: files["b.py"]}, **more)
    assert done.missing == (listed["a.py"],)


def test_an_environment_that_follows_the_folder(p: Any) -> None:
    """If this fails, what somebody uploads replaces the folder of the server, or is dropped
    without a word."""
    same = send(p, files_of(p), env="dev")
    assert same.version == p.core.project.folder_version()
    refused(
        p,
        "`dev` has what the folder of the server has",
        files_of(p, ops_py=EDITED.encode()),
        env="dev",
    )
    Operations(p, BOB).create_environment("kept", "prod", frozen=True)
    refused(p, "frozen", files_of(p, ops_py=EDITED.encode()), env="kept")


def test_prod_asks_for_approval_of_an_upload(p: Any) -> None:
    """If this fails, an upload goes past the rules in force."""
    before = in_force(p)
    done = send(p, files_of(p, ops_py=BODY.replace(REVIEWED, "").encode()), env="prod")
    with pytest.raises(Denied, match="1 of ops"):
        run(p, BOB, "prod", version=done.version)
    assert in_force(p) == before
    with pytest.raises(UserError, match="was named"):
        run(p, BOB, "prod", version=done.version, pinned=True)
    with pytest.raises(NotFound, match="no version"):
        run(p, BOB, "prod", version="0" * 64)


def test_an_upload_declares_no_environment(p: Any) -> None:
    """If this fails, an upload makes an environment that no rule speaks of, or one that cannot be
    dropped any more."""
    text = EDITED.replace('tz="UTC"', 'tz="UTC", environments=["dev", "prod", "pr-7", "live"]')
    done = send(p, files_of(p, ops_py=text.encode()))
    assert "live: declared" in " ".join(done.notes)
    run(p, BOB, "pr-7", version=done.version)
    assert {e["name"] for e in Operations(p).environments()} == {"dev", "prod", "pr-7"}
    Operations(p, BOB).drop_environment("pr-7")
    assert {e["name"] for e in Operations(p).environments()} == {"dev", "prod"}


def test_other_distributions_are_told(p: Any) -> None:
    """If this fails, what runs at the server is not what was tried, and nobody says so."""
    here = sorted(loading.installed())
    assert send(p, files_of(p), installed=here).notes == ()
    polars = next(one for one in here if one.startswith("polars-"))
    other = [one for one in here if one != polars] + ["polars-0.1.0.dist-info"]
    (note,) = send(p, files_of(p), installed=other).notes
    assert "polars" in note and "(not 0.1.0)" in note


def test_a_version_that_nobody_released_expires_and_comes_again(p: Any) -> None:
    """If this fails, every try of everybody is kept for good, or one that went cannot come back."""
    files = files_of(p, ops_py=EDITED.encode())
    done = send(p, files)
    p.core.clock.wait(401 * 86400.0)
    keeping.collect(p.core, p.runs.bundles)
    p.core.clock.wait(2 * 86400.0)
    keeping.collect(p.core, p.runs.bundles)
    versions = {one["version"]: one for one in Operations(p).versions("project").items}
    assert versions[done.version]["expired"], versions
    with pytest.raises((NotFound, Conflict), match="expired|not stored"):
        Operations(p, BOB).release("project", version=done.version, env="pr-7")
    assert send(p, files).version == done.version
    run(p, BOB, "pr-7", version=done.version)
    assert in_force(p, "pr-7") == done.version
    assert in_force(p), "what is in force is kept"
    assert p.core.project.manifest("prod").project == "shop"


def test_a_folder_that_comes_back_to_a_version_that_expired(p: Any) -> None:
    """If this fails, an old state of the folder can never be released again."""
    text = p.core.project.root / "ops.py"
    text.write_text(EDITED)
    run(p, env="dev")
    edited = in_force(p, "dev")
    text.write_text(BODY)
    run(p, env="dev")
    for days in (401, 2):
        p.core.clock.wait(days * 86400.0)
        keeping.collect(p.core, p.runs.bundles)
    assert not p.core.project.versions.is_stored("shop", edited)
    text.write_text(EDITED)
    run(p, BOB, "pr-7")
    assert in_force(p, "pr-7") == edited == in_force(p, "dev")
