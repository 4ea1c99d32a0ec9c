"""The pin of a ledger as people meet it: written when a project begins, taken by a command for an
older one, followed when the folder moves, and never anybody else's."""

from sextant.kernel.nouns import SYSTEM
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sextant.project.config import read_config
from sextant.app.operations import Operations
from sextant.app.pin import remove_pin
from sextant.app.platform import LocalPlatform
from sextant.kernel.errors import Damaged, Denied, SextantError
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Statement, Write
from sextant.ledger.checkpoint import rotate

TOML = '# our shop\nmodule = "ops"  # the module\n\n# where it listens\n[server]\napi = "127.0.0.1:7781"\n'
OPS = 'import sextant as sx\nsx.project("shop", tz="UTC", environments=["dev"])\n'
Sx = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sx:
    """Run a command in the project `shop`; returns (exit code, stdout, stderr)."""
    from sextant.cli.main import call

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    monkeypatch.setenv("SEXTANT_USER", "ann")
    write(tmp_path / "shop")

    def run(*words: str, at: Path = tmp_path / "shop") -> tuple[int, str, str]:
        capfd.readouterr()
        code = call(["--project", str(at), *words] if words[0] != "init" else list(words))
        out, err = capfd.readouterr()
        return code, out, err

    return run


def write(root: Path, toml: str = TOML) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "sextant.toml").write_text(toml)
    (root / "ops.py").write_text(OPS)


def pin_of(root: Path) -> dict[str, str]:
    found: dict[str, str] = tomllib.loads((root / "sextant.toml").read_text()).get("ledger", {})
    return found


def event(sx: Sx, root: Path) -> None:
    assert sx("report", "run", "job:a", at=root)[0] == 0


def findings(sx: Sx, root: Path) -> list[str]:
    code, out, _ = sx("ledger", "verify", "--json", at=root)
    found = json.loads(out)
    assert code == (0 if found["ok"] else 1)
    return [one["message"] for one in found["findings"]]


def examined(sx: Sx, root: Path) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(sx("doctor", "--json", at=root)[1])}


# ---------------------------------------------------------------- a new ledger


def test_a_new_ledger_is_pinned_and_comments_stay(sx: Sx, tmp_path: Path) -> None:
    """The key that is trusted would stand in the database alone, or a person's file be rewritten."""
    root = tmp_path / "shop"
    (root / "sextant.toml").chmod(0o640)
    code, _, said = sx("status")
    assert (code, said) == (0, "")
    text = (root / "sextant.toml").read_text()
    line = next(one for one in text.splitlines() if one.startswith("ledger = "))
    assert text.replace(line + "\n", "") == TOML
    assert (root / "sextant.toml").stat().st_mode & 0o777 == 0o640
    key = tmp_path / "home" / "config" / "sextant" / "keys" / f"{pin_of(root)['id']}.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    event(sx, root)
    assert findings(sx, root) == []
    assert examined(sx, root)["pin"]["ok"]
    with (root / "sextant.toml").open(
        "a"
    ) as file:  # the pin is no table that swallows what follows
        file.write("[telemetry]\nseries_max = 7\n")
    assert read_config(root).telemetry.series_max == 7


def test_processes_that_begin_together_agree(sx: Sx, tmp_path: Path) -> None:
    """Two first commands would make two ids, and one of them a ledger that is Damaged for ever."""
    root = tmp_path / "shop"
    command = [sys.executable, "-m", "sextant.cli.main", "ledger", "verify"]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
    event(sx, root)
    assert findings(sx, root) == []
    assert len(os.listdir(tmp_path / "home" / "config" / "sextant" / "keys")) == 1


def test_a_file_that_cannot_be_written_leaves_the_ledger_unpinned(
    sx: Sx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project in a read-only folder could not be used at all, or nobody be told."""
    root = tmp_path / "shop"
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name.startswith(".sextant.toml"):
            raise PermissionError(13, "Permission denied")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    code, _, said = sx("report", "run", "job:a")
    assert code == 0
    line = next(one for one in said.splitlines() if "ledger = {" in one)
    assert pin_of(root) == {}
    assert sx("report", "run", "job:a")[2] == "", "said once"
    found = examined(sx, root)["pin"]
    assert (found["ok"], "sextant ledger pin" in found["hint"]) == (False, True)
    assert findings(sx, root) == [], "the witness of the place has it"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    (root / "sextant.toml").write_text(line.partition(": ")[2] + "\n" + TOML)
    assert findings(sx, root) == []
    assert examined(sx, root)["pin"]["ok"]


def test_a_folder_that_is_made_again_is_a_choice_of_a_person(sx: Sx, tmp_path: Path) -> None:
    """Deleting the state would look like a new project; or `init` in the same place never work."""
    root = tmp_path / "shop"
    event(sx, root)
    shutil.rmtree(root)
    write(root)
    code, _, said = sx("status")
    assert code == 3
    assert "SX-LEDGER-031" in said
    shutil.rmtree(root)
    code, _, said = sx("init", str(root))
    assert code == 0
    assert "another project was here" in said
    assert sx("status")[0] == 0
    assert pin_of(root)


# ---------------------------------------------------------------- an older ledger


@pytest.fixture
def old(sx: Sx, tmp_path: Path) -> Path:
    """Make a project as an older version leaves it: no pin, the witness by the database's id."""
    root = tmp_path / "shop"
    event(sx, root)
    id_ = pin_of(root)["id"]
    remove_pin(root)
    for path in (tmp_path / "home" / "state" / "sextant" / "witness").iterdir():
        if path.name != f"{id_}.txt":
            path.unlink()
    return root


def test_an_older_ledger_is_pinned_by_a_command_only(sx: Sx, old: Path) -> None:
    """A ledger that was tampered with before would be trusted silently."""
    assert findings(sx, old) == []
    event(sx, old)
    assert pin_of(old) == {}, "never silently"
    assert not examined(sx, old)["pin"]["ok"]
    code, out, _ = sx("ledger", "pin", "--json")
    assert code == 0
    assert pin_of(old) == {name: json.loads(out)[name] for name in ("id", "public")}
    assert examined(sx, old)["pin"]["ok"]
    assert findings(sx, old) == []
    last = json.loads(sx("ledger", "show", "--type", "ledger.pinned", "--json")[1])
    assert [one["actor"] for one in last] == ["person:ann"]


def test_the_witness_of_an_older_version_is_carried_over(sx: Sx, old: Path, tmp_path: Path) -> None:
    """Between the update and the pin, another id in the database would be another witness."""
    assert sx("status")[0] == 0
    assert len(list((tmp_path / "home" / "state" / "sextant" / "witness").glob("*.txt"))) == 2
    with LocalPlatform(read_config(old), load=False, confirm=False) as p:
        p.core.state.commit(Write((Statement("meta_set", ("project_id", "prj_other")),)))
    code, _, said = sx("status")
    assert (code, "SX-LEDGER-032" in said) == (3, True)
    assert any("prj_other" in one for one in findings(sx, old))


def test_a_ledger_that_does_not_verify_is_not_pinned(sx: Sx, old: Path, tmp_path: Path) -> None:
    """Pinning would turn a forged ledger into the trusted one."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(old / ".sextant" / "state.db", isolation_level=None)) as database:
        database.execute("UPDATE payload SET body = ? WHERE seq = 1", (b"{}",))
    code, _, said = sx("ledger", "pin")
    assert (code, "SX-LEDGER-037" in said) == (3, True)
    assert pin_of(old) == {}
    next((tmp_path / "home" / "config" / "sextant" / "keys").glob("*.pem")).unlink()
    code, _, said = sx("ledger", "pin")
    assert (code, "SX-LEDGER-021" in said) == (2, True)


def test_pinning_asks_the_policy_and_is_no_part_of_the_network(sx: Sx, old: Path) -> None:
    """Whoever reaches the server could make another ledger the trusted one."""
    (old / "ops.py").write_text(
        OPS + "sx.policy('fixed', when=\"verb == 'pin'\", then='deny', absolute=True)\n"
    )
    with (
        LocalPlatform(read_config(old)) as p,
        pytest.raises(Denied, match="may not pin"),
    ):
        p.sealing.take(p.core.authorization.who())
    assert pin_of(old) == {}
    from sextant.app.operations import OPERATIONS

    assert "pin" not in {one.name for one in OPERATIONS}
    from sextant.cli.main import call

    assert call(["--server", "http://127.0.0.1:1", "ledger", "pin"]) == 2


# ---------------------------------------------------------------- keys


def test_a_rotation_moves_the_pin_and_a_stale_one_is_a_finding(sx: Sx, tmp_path: Path) -> None:
    """After a rotation the pin would be of a key that signs no more, or its change unseen."""
    root = tmp_path / "shop"
    event(sx, root)
    before = (root / "sextant.toml").read_text()
    assert sx("ledger", "rotate")[0] == 0
    assert (root / "sextant.toml").read_text() != before
    assert findings(sx, root) == []
    (root / "sextant.toml").write_text(before)  # as on another machine
    event(sx, root)
    (found,) = findings(sx, root)
    assert "sextant ledger pin" in found
    assert sx("ledger", "pin")[0] == 0
    assert findings(sx, root) == []


def test_a_missing_key_is_never_made_again(sx: Sx, tmp_path: Path) -> None:
    """A thief would only have to delete the key, and the next command signed with a new one."""
    root = tmp_path / "shop"
    event(sx, root)
    (key,) = (tmp_path / "home" / "config" / "sextant" / "keys").glob("*.pem")
    aside = key.rename(tmp_path / "aside.pem")
    assert any("signing key is missing" in one for one in findings(sx, root))
    code, _, said = sx("ledger", "checkpoint")
    assert (code, "key.pem" in said) == (2, True)
    assert not key.exists()
    shutil.copy(aside, key)
    assert findings(sx, root) == []


def test_events_that_were_never_signed_are_a_finding(sx: Sx, tmp_path: Path) -> None:
    """Whoever drops every checkpoint would leave nothing that could be wrong."""
    root = tmp_path / "shop"
    config = read_config(root)
    with LocalPlatform(config, load=False) as p:
        p.core.state.commit(Write((), (p.core.events.make("note.taken", "a", {}, SYSTEM, ""),)))
        p._events_at_start = p.ledger.size()  # it ends as if it had been killed: nothing is signed
    assert any("none of the 1 events is signed" in one for one in findings(sx, root))
    assert sx("ledger", "checkpoint")[0] == 0
    assert findings(sx, root) == []


def test_a_ledger_without_any_key_gets_its_first_by_rotating(sx: Sx, old: Path) -> None:
    """A ledger of an older version, killed before it had a key, could never be signed."""
    config = read_config(old)
    with LocalPlatform(config, load=False, confirm=False) as p:
        shutil.rmtree(p.sealing.key_path.parent)
        shutil.rmtree(p.sealing.witness_path.parent)
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(old / ".sextant" / "state.db", isolation_level=None)) as database:
        database.execute("DELETE FROM checkpoint")
    code, _, said = sx("ledger", "checkpoint")
    assert (code, "sextant ledger rotate" in said) == (2, True)
    assert sx("ledger", "rotate")[0] == 0
    assert findings(sx, old) == []


def test_a_key_of_another_ledger_does_not_sign(sx: Sx, tmp_path: Path) -> None:
    """A key file that was exchanged would sign as if it were the ledger's."""
    from sextant.ledger.checkpoint import Signer

    root = tmp_path / "shop"
    event(sx, root)
    (key,) = (tmp_path / "home" / "config" / "sextant" / "keys").glob("*.pem")
    key.unlink()
    Signer.create(key)
    assert any("another key" in one for one in findings(sx, root))
    assert "SX-LEDGER-034" in sx("ledger", "checkpoint")[2]


# ---------------------------------------------------------------- other machines, other places


def another_machine(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))


def test_a_clone_on_another_machine_has_a_ledger_of_its_own(
    sx: Sx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pin that is in version control would lock everybody else out, or change with each clone."""
    first, clone = tmp_path / "shop", tmp_path / "clone"
    event(sx, first)
    pinned = (first / "sextant.toml").read_text()
    another_machine(monkeypatch, tmp_path / "elsewhere")
    write(clone, pinned)
    code, _, said = sx("report", "run", "job:a", at=clone)
    assert code == 0
    assert "a ledger of its own begins here" in said
    assert (clone / "sextant.toml").read_text() == pinned
    assert sx("report", "run", "job:a", at=clone)[2] == "", "said once"
    assert findings(sx, clone) == []
    found = examined(sx, clone)["pin"]
    assert found["ok"]
    assert "another machine" in found["found"]
    with LocalPlatform(read_config(clone), load=False) as p:
        assert not p.sealing.is_pinned
        p.core.state.commit(Write((Statement("meta_set", ("project_id", pin_of(first)["id"])),)))
    assert sx("status", at=clone)[0] == 3, "from then on the witness of the place judges"


def test_an_older_ledger_beside_a_foreign_pin_is_kept_by_a_word(
    sx: Sx, old: Path, tmp_path: Path
) -> None:
    """Pulling a colleague's pin would leave one's own ledger Damaged for good."""
    other = tmp_path / "colleague"
    write(other)
    event(sx, other)
    (old / "sextant.toml").write_text((other / "sextant.toml").read_text())
    for name in ("config/sextant/keys", "state/sextant/witness"):
        for path in (tmp_path / "home" / name).glob(f"{pin_of(other)['id']}*"):
            path.unlink()  # it was another machine
    code, _, said = sx("status")
    assert (code, "ledger pin --local" in said) == (3, True)
    assert sx("ledger", "pin", "--local")[0] == 0
    assert pin_of(old) == pin_of(other)
    assert sx("status")[0] == 0
    assert findings(sx, old) == []


def test_a_moved_folder_goes_on_and_an_emptied_one_does_not(sx: Sx, tmp_path: Path) -> None:
    """The witness is found by the place, and a folder that was moved has another."""
    first, second = tmp_path / "shop", tmp_path / "moved"
    event(sx, first)
    first.rename(second)
    event(sx, second)
    assert findings(sx, second) == []
    second.rename(first)
    (first / ".sextant" / "state.db").unlink()
    first.rename(tmp_path / "third")
    assert "SX-LEDGER-031" in sx("status", at=tmp_path / "third")[2]


def test_a_backup_of_another_ledger_is_not_restored(sx: Sx, tmp_path: Path) -> None:
    """The restored project would be Damaged by its own sextant.toml."""
    root, other = tmp_path / "shop", tmp_path / "other"
    event(sx, root)
    assert sx("backup", "create", str(tmp_path / "backup"))[0] == 0
    write(other)
    event(sx, other)
    shutil.rmtree(other / ".sextant")
    code, _, said = sx("backup", "restore", str(tmp_path / "backup"), str(other))
    assert (code, "SX-BACKUP-008" in said) == (2, True)
    assert not (other / ".sextant").exists()
    whole = tmp_path / "whole"
    assert sx("backup", "restore", str(tmp_path / "backup"), str(whole))[0] == 0
    shutil.copy(root / "ops.py", whole)
    assert findings(sx, whole) == []
    event(sx, whole)


def test_a_shared_database_that_is_empty_under_a_pin_is_damaged(
    sx: Sx, tmp_path: Path, postgres_server: str, postgres_schema: str
) -> None:
    """An emptied database would be filled by the next machine as if it were new."""
    root = tmp_path / "shop"
    write(root, f'module = "ops"\nstate = "{postgres_server}"\nschema = "{postgres_schema}"\n')
    event(sx, root)
    assert findings(sx, root) == []
    toml = (root / "sextant.toml").read_text()
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, toml.replace(postgres_schema, postgres_schema + "_new"))
    code, _, said = sx("status", at=elsewhere)
    assert (code, "SX-LEDGER-033" in said) == (3, True)


# ---------------------------------------------------------------- who may know


def test_viewers_do_not_learn_where_key_and_witness_lie(sx: Sx, old: Path) -> None:
    """Whoever looks over the network would learn where the key is."""
    viewer = Principal(name="vera", kind="person", role="viewer")
    with LocalPlatform(read_config(old)) as p:
        paths = [
            str(p.sealing.key_path),
            *map(str, p.sealing.witness_paths),
            str(p.core.project.folder),
        ]
        shown = json.dumps(Operations(p, viewer).doctor())
        assert [path for path in paths if path in shown] == []
        assert paths[0] in json.dumps(Operations(p).doctor())
        p.sealing.key_path.chmod(0o644)
        with pytest.raises(SextantError) as raised:
            p.sealing.signer()
        text = "\n".join(raised.value.lines())
        assert paths[0] in text
        assert paths[0] not in p.sealing.without_paths(text)
        p.sealing.key_path.chmod(0o600)


def test_a_rotation_by_another_process_is_followed(sx: Sx, tmp_path: Path) -> None:
    """A server that is up would take the new key for a stranger's."""
    root = tmp_path / "shop"
    event(sx, root)
    with LocalPlatform(read_config(root), load=False) as p:
        with LocalPlatform(read_config(root), load=False) as other:
            rotate(
                other.core.state,
                other.sealing.signer(),
                origin=other.sealing.origin,
                clock=other.core.clock,
                ids=other.core.ids,
                actor="person:ann",
            )
        p.core.state.commit(Write((), (p.core.events.make("note.taken", "a", {}, SYSTEM, ""),)))
        p.sealing.checkpoint()
        p.sealing.confirm()
        p.core.state.commit(Write((Statement("meta_set", ("project_id", "prj_x")),)))
        assert not Operations(p).verify()["ok"], "looked up again, not remembered"
    with pytest.raises(Damaged), LocalPlatform(read_config(root), load=False):
        pass
