"""The command line as a person meets it: one small project, lived through from init to undo."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Sx = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home of its own: keys and witnesses go there."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "shop"


@pytest.fixture
def sx(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Sx]:
    """Run a command in the project; returns (exit code, stdout, stderr)."""
    from sextant.cli.main import call

    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("SEXTANT_USER", "ann")

    def run(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = call(["--project", str(project), *args] if args[0] != "init" else list(args))
        out, err = capfd.readouterr()
        return code, out, err

    yield run


def as_json(result: tuple[int, str, str]) -> Any:
    return json.loads(result[1])


def test_a_new_project_runs_at_once(sx: Sx, project: Path) -> None:
    """If this fails, the first five minutes of every user fail."""
    assert sx("init", str(project))[0] == 0
    code, out, _ = sx("plan")
    assert code == 0
    assert "dataset:orders" in out
    assert "missing" in out
    report = as_json(sx("run", "--json"))
    assert report["state"] == "finished"
    assert report["computed"] == 3
    assert set(report["published"]) == {
        "kpi:average_order",
        "dataset:orders",
        "dataset:kpi_average_order",
        "dataset:revenue",
    }


def test_running_again_does_nothing(sx: Sx) -> None:
    """If this fails, unchanged work is done twice."""
    code, out, _ = sx("run")
    assert (code, out.strip()) == (0, "nothing to do: everything is up to date (0 steps)")


def test_a_ratio_by_dimension_is_not_an_average_of_averages(sx: Sx, project: Path) -> None:
    """If this fails, drill-down numbers do not follow from the rows."""
    rows = as_json(sx("kpi", "average_order", "--by", "shop", "--json"))["rows"]
    orders = as_json(sx("show", "orders", "--limit", "1000", "--json"))["sample"]
    for row in rows:
        mine = [o["amount"] for o in orders if o["shop"] == row["shop"]]
        assert row["value"] == pytest.approx(sum(mine) / len(mine))
    whole = as_json(sx("kpi", "average_order", "--json"))["rows"][0]["value"]
    assert whole == pytest.approx(sum(o["amount"] for o in orders) / len(orders))


def test_an_edit_is_reported_stale_and_made_again_when_asked(sx: Sx, project: Path) -> None:
    """If this fails, changed code goes unseen, or is run without being asked."""
    ops = project / "ops.py"
    ops.write_text(ops.read_text().replace("* 7 % 90 + 10", "* 7 % 80 + 10"))
    code, out, _ = sx("plan")
    assert "stale  dataset:orders: 7 partitions" in out
    assert as_json(sx("run", "--json")).get("computed", 0) == 0
    report = as_json(sx("backfill", "orders", "--stale", "--json"))
    assert (report["state"], report["computed"]) == ("finished", 3)


def test_a_comment_is_no_change(sx: Sx, project: Path) -> None:
    """If this fails, reformatting a file makes a year of data stale."""
    ops = project / "ops.py"
    ops.write_text(ops.read_text() + "\n# a remark\n")
    assert "nothing to run" in sx("plan")[1]


def test_rollback_takes_everything_back_that_followed(sx: Sx) -> None:
    """If this fails, an undo leaves derived data standing on what was taken back."""
    before = as_json(sx("versions", "orders", "--json"))
    report = as_json(sx("rollback", "orders", "--reason", "wrong prices", "--json"))
    assert report["published"]["dataset:orders"] == before[1]["version"]
    assert set(report["published"]) == {
        "dataset:orders",
        "dataset:kpi_average_order",
        "dataset:revenue",
    }
    code, out, _ = sx("plan")
    assert "held   dataset:orders" in out
    after = as_json(sx("versions", "orders", "--json"))
    assert after[0]["state"] == "withdrawn: wrong prices"
    assert after[1]["state"] == "live"


def test_why_names_the_change_its_author_and_the_undo(sx: Sx) -> None:
    """If this fails, nobody can tell from a number what moved it."""
    changes = as_json(sx("why", "kpi:average_order", "--json"))["changes"]
    newest = next(c for c in changes if c["asset"] == "dataset:orders")
    assert newest["changed"] == "undo"
    assert newest["by"] == "person:ann"
    assert newest["reason"] == "wrong prices"
    assert newest["chain"][0]["type"] == "release.live"
    assert [e["type"] for e in newest["chain"]].count("run.started") >= 1


def test_an_environment_copies_nothing_and_sees_its_parent(sx: Sx) -> None:
    """If this fails, trying something out costs a copy, or sees something else than what is
    live."""
    assert sx("env", "create", "pr-1", "--from", "dev")[0] == 0
    a, b = (
        sx("kpi", "average_order", "--json"),
        sx("kpi", "average_order", "--env", "pr-1", "--json"),
    )
    assert as_json(a)["rows"] == as_json(b)["rows"]
    assert as_json(sx("env", "diff", "dev", "pr-1", "--json"))["assets"] == []


def test_what_other_tools_do_is_part_of_the_graph(sx: Sx) -> None:
    """If this fails, an observed asset is not explained through the same graph."""
    code, out, _ = sx(
        "report",
        "release",
        "service:checkout",
        "--version",
        "v12",
        "--reads",
        "orders",
        "--owner",
        "web",
    )
    assert code == 0
    graph = as_json(sx("graph", "orders+", "--json"))
    assert "service:checkout" in {a["id"] for a in graph["assets"]}
    assert sx("report", "check", "service:checkout", "--state", "failed", "--name", "smoke")[0] == 0
    assert sx("status")[0] == 1


def test_the_ledger_verifies_and_an_event_can_be_proven_offline(sx: Sx, tmp_path: Path) -> None:
    """If this fails, what happened cannot be proven."""
    found = as_json(sx("ledger", "verify", "--json"))
    assert found["ok"], found
    assert found["signed"] == found["witnessed"] == found["events"]
    bundle, witness = tmp_path / "proof.json", tmp_path / "witness.txt"
    assert sx("ledger", "checkpoint", "-o", str(witness))[0] == 0
    assert sx("report", "run", "job:late", "--feeds", "orders")[0] == 0  # the log goes on
    _, _, told = sx("ledger", "prove", "3", "--since", str(witness), "-o", str(bundle))
    assert json.loads(bundle.read_text())["key"] not in told  # the reader brings a key of his own
    import subprocess
    import sys

    import sextant.ledger.standalone as standalone

    def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, standalone.__file__, str(bundle), *arguments],
            capture_output=True,
            text=True,
        )

    checked = check("--witness", str(witness))
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.startswith("ok: event 3 ")
    checked = check()
    assert checked.returncode == 2, "a proof vouches for itself"
    assert "anybody may have signed this" in checked.stdout


def test_a_backup_is_verified_and_restored(sx: Sx, tmp_path: Path, project: Path) -> None:
    """The restore drill: if this fails, the backups of a company are worth nothing."""
    from sextant.cli.main import call

    folder = tmp_path / "backup"
    assert sx("backup", "create", str(folder))[0] == 0
    assert sx("backup", "verify", str(folder))[0] == 0
    target = tmp_path / "restored"
    assert sx("backup", "restore", str(folder), str(target))[0] == 0
    for name in ("ops.py", "revenue.sql"):
        (target / name).write_bytes((project / name).read_bytes())
    mine = as_json(sx("show", "revenue", "--limit", "100", "--json"))["sample"]
    assert call(["--project", str(target), "ledger", "verify"]) == 0
    assert call(["--project", str(target), "run"]) == 0
    code = call(["--project", str(target), "show", "revenue", "--limit", "100", "--json"])
    assert code == 0
    del mine
    victim = next((folder / "lake").rglob("*.parquet"))
    victim.chmod(0o600)
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    code, out, _ = sx("backup", "verify", str(folder))
    assert code == 1
    assert victim.name in out


def test_a_restore_puts_lake_and_key_where_the_project_says(
    sx: Sx, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a project that keeps its data on another disk comes back empty."""
    from sextant.cli.main import call

    folder = tmp_path / "backup"
    assert sx("backup", "create", str(folder))[0] == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another-machine"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "sextant.toml").write_text(
        (project / "sextant.toml").read_text() + 'lake = "../data/lake"\nkey = "../keys/mine.pem"\n'
    )
    for name in ("ops.py", "revenue.sql"):
        (other / name).write_bytes((project / name).read_bytes())
    (tmp_path / "data" / "lake" / "theirs").mkdir(parents=True)
    assert sx("backup", "restore", str(folder), str(other))[0] == 2, (
        "a lake that holds something is never written over"
    )
    (tmp_path / "data" / "lake" / "theirs").rmdir()
    assert sx("backup", "restore", str(folder), str(other))[0] == 0
    assert not (other / ".sextant" / "lake").exists()
    assert (tmp_path / "keys" / "mine.pem").stat().st_mode & 0o777 == 0o600
    assert call(["--project", str(other), "show", "revenue"]) == 0
    assert call(["--project", str(other), "ledger", "verify"]) == 0


def test_a_kpi_definition_is_released_and_undone(sx: Sx, project: Path) -> None:
    """If this fails, changing what a number means cannot be taken back."""
    value = as_json(sx("kpi", "average_order", "--json"))["rows"][0]["value"]
    ops = project / "ops.py"
    good = ops.read_text()
    ops.write_text(good.replace("sum(amount) / count(*)", "max(amount)"))
    report = as_json(sx("run", "--json"))
    assert "kpi:average_order" in report["published"]
    assert as_json(sx("kpi", "average_order", "--json"))["rows"][0]["value"] != value
    old = as_json(sx("versions", "kpi:average_order", "--json"))[1]["version"]
    history = as_json(sx("diff", f"kpi:average_order@{old}", "--json"))["history"]
    assert [(h["bucket"], h["before"] < h["after"]) for h in history] == [("2026-01", True)]
    report = as_json(sx("rollback", "kpi:average_order", "--reason", "not what we mean", "--json"))
    assert {"kpi:average_order", "dataset:kpi_average_order"} <= set(report["published"])
    ops.write_text(good)
    assert as_json(sx("kpi", "average_order", "--json"))["rows"][0]["value"] == value
    assert as_json(sx("run", "--json")).get("computed", 0) == 0


def test_wrong_words_get_a_clear_answer(sx: Sx) -> None:
    """If this fails, a typing mistake gets a traceback or the wrong exit code."""
    for words, code, text in (
        (("show", "ordesr"), 2, "did you mean orders"),
        (("run", "--partition", "2026-13-01"), 2, "2026-13-01"),
        (("run", "--partition", "2026-01-05..2026-01-02"), 2, "ends before it starts"),
        (("show", "orders", "--as-of", "zzzz"), 2, "not a version"),
        (("kpi", "average_order", "--by", "shpo"), 2, "shop"),
        (("env", "create", "Bad Name", "--from", "dev"), 2, "lower-case"),
        (("status", "--env", "nowhere"), 2, "there are dev"),
        (("release", "orders"), 2, "--from ENV"),
        (("approve", "rel_nothing"), 2, "there is no release"),
        (("report", "run", "dataset:orders"), 2, "managed by Sextant"),
        (("statsu",), 2, "did you mean status"),
        (("releases", "--env", "nosuch"), 2, "there is no environment `nosuch`"),
        (("why", "ev_nosuch"), 2, "the ledger knows no `ev_nosuch`"),
        (("logs", "run_nosuch"), 2, "there is no run `run_nosuch`"),
        (
            ("run", "--watch", "--force", "--partition", "2026-01-02"),
            2,
            "--partition and --force cannot go with it",
        ),
        (
            ("run", "--each", "--partition", "2026-01-02", "--break-glass", "now"),
            2,
            "do not go together",
        ),
        (("backup", "verify", "/nowhere"), 2, "no backup"),
    ):
        found, out, err = sx(*words)
        assert found == code, (words, err)
        assert text in err, (words, err)
        assert "Traceback" not in err


def test_doctor_finds_nothing_wrong(sx: Sx) -> None:
    """If this fails, a healthy project is called sick."""
    found = as_json(sx("doctor", "--json"))
    assert [f for f in found if not f["ok"] and f["name"] not in ("disk",)] == []


def test_a_diff_without_a_second_state_shows_the_last_change(sx: Sx) -> None:
    """If this fails, the plainest question - what did the last change change - gets an error or no
    answer."""
    newest = as_json(sx("releases", "--asset", "revenue", "--env", "dev", "--json"))[0]
    move = next(m for m in newest["moves"] if m["asset"] == "dataset:revenue")
    code, out, err = sx("diff", "revenue")
    assert code == 1, err
    assert out.startswith(f"dataset:revenue  {move['source'][:12]} -> {move['target'][:12]}")
    assert (
        as_json(sx("diff", "revenue@" + move["source"][:12], "--json"))["after"] == move["target"]
    )


def test_why_shows_what_another_tool_did_upstream(sx: Sx) -> None:
    """If this fails, an observed asset is in the graph but in no answer, and its failure can never
    be closed."""
    assert (
        sx(
            "report",
            "run",
            "job:loader",
            "--feeds",
            "orders",
            "--state",
            "failed",
            "--name",
            "nightly",
        )[0]
        == 0
    )
    changes = as_json(sx("why", "kpi:average_order", "--json"))["changes"]
    assert [c["changed"] for c in changes if c["asset"] == "job:loader"] == ["run failed"]
    signal = next(s for s in as_json(sx("signals", "--json")) if s["asset"] == "job:loader")
    assert sx("signals", signal["id"])[0] == 2
    assert sx("signals", signal["id"], "--close", "the loader ran again")[0] == 0
    assert sx("signals", signal["id"], "--close", "twice")[0] == 2
    assert as_json(sx("signals", "--json"))[0]["closed_at"]


def test_personal_columns_are_masked_wherever_rows_are_shown(
    tmp_path: Path, sx: Sx, project: Path
) -> None:
    """If this fails, `show` or `diff` prints what the author marked as personal."""
    ops = project / "ops.py"
    good = ops.read_text()
    ops.write_text(good.replace('time="at", checks', 'time="at", personal="shop", checks'))
    assert {row["shop"] for row in as_json(sx("show", "orders", "--json"))["sample"]} == {"***"}
    assert "north" not in sx("diff", "orders", "--json")[1]
    ops.write_text(good)
    assert sx("plan")[0] == 0


def test_a_kpi_may_become_a_number_of_another_type_and_back(sx: Sx, project: Path) -> None:
    """If this fails, a definition whose parts are counts can never be replaced by one over
    money."""
    ops = project / "ops.py"
    good = ops.read_text()
    before = as_json(sx("kpi", "average_order", "--by", "shop", "--json"))["rows"]
    ops.write_text(good.replace("sum(amount) / count(*)", "count(*) / 7"))
    assert as_json(sx("run", "--json"))["state"] == "finished"
    ops.write_text(good.replace("sum(amount) / count(*)", "avg(amount) - 1"))
    assert as_json(sx("run", "--json"))["state"] == "finished"
    assert as_json(sx("rollback", "kpi:average_order", "--json"))["state"] == "finished"
    ops.write_text(good)
    assert as_json(sx("run", "--json"))["state"] == "finished"
    assert as_json(sx("kpi", "average_order", "--by", "shop", "--json"))["rows"] == before
    assert as_json(sx("ledger", "verify", "--json"))["ok"]


@pytest.mark.parametrize(
    ("raised", "code", "name", "text"),
    [
        (
            PermissionError(13, "Permission denied", "/data/lake"),
            3,
            "SX-CLI-020",
            "Permission denied: `/data/lake`",
        ),
        (OSError(28, "No space left on device"), 3, "SX-CLI-020", "No space left on device"),
        (KeyError("nothing"), 70, "SX-CLI-021", "a promise inside Sextant was broken"),
    ],
)
def test_an_error_that_is_not_ours_is_no_finding(
    sx: Sx, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int, name: str, text: str
) -> None:
    """If this fails, a full disk or a bug ends with exit code 1: CI takes it for a failed check."""
    from sextant.app.platform import LocalPlatform

    def broken(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(LocalPlatform, "open", broken)
    monkeypatch.delenv("SEXTANT_DEBUG", raising=False)
    found, out, err = sx("status", "--json")
    problem = json.loads(out)
    assert (found, problem["code"]) == (code, name)
    assert text in problem["title"]
    assert problem["hint"]
    assert text in err
    assert "Traceback" not in err
    monkeypatch.setenv("SEXTANT_DEBUG", "1")
    assert "Traceback" in sx("status")[2]


def test_a_run_for_each_day_that_is_interrupted_says_how_far_it_came(
    sx: Sx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, Ctrl-C in a year of runs leaves nobody knowing what was done."""
    from sextant.app.interrupts import Interrupts

    monkeypatch.setattr(Interrupts, "interrupted", lambda _p: True)
    code, out, _ = sx("run", "--each", "--partition", "2026-01-02..2026-01-03", "--json")
    assert (code, json.loads(out)["runs"]) == (130, 0)
