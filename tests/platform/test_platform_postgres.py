"""The same platform with its state in a real Postgres."""

import json
from pathlib import Path

import pytest

from sextant.cli.main import call


def test_a_project_lives_on_postgres(
    tmp_path: Path,
    postgres_server: str,
    postgres_schema: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """If this fails, a project that outgrew one machine cannot move its state."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "shop"
    assert call(["init", str(project)]) == 0
    settings = project / "sextant.toml"
    settings.write_text(
        settings.read_text() + f'state = "{postgres_server}"\nschema = "{postgres_schema}"\n'
    )

    def sx(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = call(["--project", str(project), *words])
        return code, capfd.readouterr().out

    report = json.loads(sx("run", "--json")[1])
    assert (report["state"], report["computed"]) == ("finished", 3)
    assert "up to date" in sx("run")[1]
    ops = project / "ops.py"
    ops.write_text(ops.read_text().replace("* 7 % 90 + 10", "* 7 % 80 + 10"))
    assert sx("backfill", "orders", "--stale")[0] == 0
    before = json.loads(sx("versions", "orders", "--json")[1])
    undone = json.loads(sx("rollback", "orders", "--json")[1])
    assert undone["published"]["dataset:orders"] == before[1]["version"]
    assert sx("env", "create", "pr-1", "--from", "dev")[0] == 0
    assert (
        len(
            json.loads(sx("kpi", "average_order", "--by", "shop", "--env", "pr-1", "--json")[1])[
                "rows"
            ]
        )
        == 3
    )
    rows = tmp_path / "rows.jsonl"
    ops.write_text(
        ops.read_text()
        + '\nmoved = sx.stream("moved", columns={"id": "string", "at": "date"}, key="id", '
        'time="at", partition=sx.daily(start="2026-01-01"))\n'
    )
    for number, day in enumerate((1, 2, 3, 2)):
        rows.write_text("".join(f'{{"id": "{n}", "at": "2026-01-0{day}"}}\n' for n in range(100)))
        assert sx("push", "moved", str(rows), "--batch", f"b{number}")[0] == 0
        assert sx("run")[0] == 0
    assert sx("show", "moved", "--count")[1].strip() == "100", "a key lies in one partition"
    rows.write_text('{"id": "0", "at": "2026-01-04"}\n')
    assert sx("push", "moved", str(rows), "--batch", "wrong")[0] == 0
    assert sx("push", "moved", "--drop", "wrong", "--reason", "a test")[0] == 0
    assert sx("gc")[0] == 0
    assert json.loads(sx("ledger", "verify", "--json")[1])["ok"]
    assert sx("backup", "create", str(tmp_path / "backup"))[0] == 0
    assert sx("backup", "verify", str(tmp_path / "backup"))[0] == 0
    assert not (project / ".sextant" / "state.db").exists()

    listed = json.loads(sx("versions", "orders", "--json")[1])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("ops.py", "revenue.sql"):
        (elsewhere / name).write_bytes((project / name).read_bytes())
    toml = settings.read_text().replace(
        f'schema = "{postgres_schema}"', f'schema = "{postgres_schema}_again"'
    )
    (elsewhere / "sextant.toml").write_text(toml)
    assert call(["backup", "restore", str(tmp_path / "backup"), str(elsewhere)]) == 0
    assert not (elsewhere / ".sextant" / "state.db").exists()
    capfd.readouterr()
    assert call(["--project", str(elsewhere), "versions", "orders", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == listed
    assert call(["--project", str(elsewhere), "ledger", "verify"]) == 0
    third = tmp_path / "third"
    third.mkdir()
    (third / "sextant.toml").write_text(toml)
    assert call(["backup", "restore", str(tmp_path / "backup"), str(third)]) == 2, (
        "that schema holds a ledger"
    )
    assert sorted(path.name for path in third.iterdir()) == ["sextant.toml"], (
        "a refused restore leaves nothing"
    )
