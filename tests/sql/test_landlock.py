"""What the kernel still refuses where the guard has a hole. Needs a kernel with Landlock; says so
where there is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sextant.kernel.errors import Bug, UsageError
from sextant.server.processes.supervisor import check_sql
from sextant.stores import landlock

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")

CONFINED = """
import json, os, socket, sys, threading
from pathlib import Path
folder, open_port, closed_port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.base_prefix = sys.argv[4]
from sextant.server.sql.landlock import confine
held = confine(folder / "telemetry", folder / "lake", connect=[open_port], starts_python=True)
found = {"held": held, "cwd": os.getcwd()}

def attempt(name, do):
    try:
        found[name] = str(do())
    except (OSError, Exception) as error:
        found[name] = f"{type(error).__name__}: {error}"

attempt("read", lambda: (folder / "secret").read_text())
attempt("passwd", lambda: open("/etc/passwd").read())
attempt("other", lambda: open("/proc/1/environ", "rb").read())
attempt("write", lambda: (folder / "out").write_text("x"))
attempt("lake", lambda: (folder / "lake" / "file").read_text())
attempt("lake write", lambda: (folder / "lake" / "file").write_text("x"))
attempt("own", lambda: (folder / "telemetry" / "file").write_text("x"))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", closed_port), 5).close())
attempt("connect open", lambda: socket.create_connection(("127.0.0.1", open_port), 5).close())
import subprocess
attempt("run", lambda: subprocess.run(["/bin/echo"], check=True))
attempt("python", lambda: subprocess.run([sys.executable, "-c", "print(41 + 1)"], check=True, capture_output=True, text=True).stdout.strip())

from sextant.stores.telemetry.chdb import ChdbStore
store = ChdbStore(folder / "telemetry" / "store")
store.run("CREATE DATABASE d")
store.run("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a")
for token in "abc":
    store.insert("d.t", store.query("SELECT number AS a FROM numbers(1000)", form="Native"), token=token)
store.run("OPTIMIZE TABLE d.t FINAL")
attempt("rows", lambda: store.query("SELECT count() FROM d.t", form="TSVRaw").decode().strip())
attempt("zone", lambda: store.query("SELECT toHour(toDateTime(1767310200, 'Europe/Berlin'))", form="TSVRaw").decode().strip())
for name, sql in {
    "sql file()": f"SELECT file('{folder}/secret')", "sql file": f"SELECT * FROM file('{folder}/secret', 'LineAsString')", "sql outfile": f"SELECT 1 INTO OUTFILE '{folder}/out'",
    "sql url": f"SELECT * FROM url('http://127.0.0.1:{closed_port}/', 'LineAsString') SETTINGS http_max_tries = 1", "sql insert": f"INSERT INTO FUNCTION file('{folder}/out', 'CSV') SELECT 1",
    "sql executable": "SELECT * FROM executable('echo', 'TSV', 'x String')",
}.items():
    attempt(name, lambda sql=sql: store.query(sql, form="TSVRaw").decode())
attempt("thread", lambda: (lambda box: (threading.Thread(target=lambda: box.append(open("/etc/passwd"))), box))([])[1])
store.close()
print(json.dumps(found))
"""


@needs_landlock
@pytest.mark.parametrize("prefix", [sys.base_prefix, "/usr"], ids=["own", "a distribution's"])
def test_a_confined_process(tmp_path: Path, prefix: str) -> None:
    import socket

    (tmp_path / "secret").write_text("the canary sings", encoding="utf-8")
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "file").write_text("published", encoding="utf-8")
    script = tmp_path / "code" / "confined.py"
    script.parent.mkdir()
    script.write_text(CONFINED, encoding="utf-8")
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                str(script),
                str(tmp_path),
                str(one.getsockname()[1]),
                str(other.getsockname()[1]),
                prefix,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["held"].startswith("Landlock ")
    assert Path(found["cwd"]) == (tmp_path / "lake").resolve()
    closed = [
        "read",
        "passwd",
        "other",
        "write",
        "lake write",
        "run",
        "sql file()",
        "sql file",
        "sql outfile",
        "sql insert",
        "sql executable",
    ]
    if landlock.version() >= 4:
        closed += ["connect", "sql url"]
    for name in closed:
        assert "canary" not in found[name], name
        assert "Error" in found[name] or "does not exist" in found[name], (name, found[name])
    assert not (tmp_path / "out").exists()
    if prefix == sys.base_prefix:
        assert found["python"] == "42"
    assert (found["lake"], found["own"], found["connect open"], found["rows"], found["zone"]) == (
        "published",
        "1",
        "None",
        "3000",
        "0",
    )


QUERIES = """
import json, socket, sys
from pathlib import Path
folder, port = Path(sys.argv[1]), int(sys.argv[2])
from sextant.server.sql.landlock import confine
own, store = folder / "telemetry" / "tmp" / "query-1", folder / "telemetry" / "store"
confine(own, folder / "lake", connect=(), also_read=[store])
found = {}

def attempt(name, do):
    try:
        found[name] = str(do())
    except OSError as error:
        found[name] = f"{type(error).__name__}: {error}"

attempt("store", lambda: (store / "part").read_text())
attempt("own", lambda: (own / "file").write_text("x"))
attempt("store write", lambda: (store / "part").write_text("x"))
attempt("store remove", lambda: (store / "part").unlink())
attempt("journal", lambda: (folder / "telemetry" / "journal").read_text())
attempt("other", lambda: (folder / "telemetry" / "tmp" / "query-2" / "file").read_text())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", port), 5).close())
print(json.dumps(found))
"""


@needs_landlock
def test_a_query_process_reads_the_store_and_nothing_else_of_telemetry(tmp_path: Path) -> None:
    import socket

    for name in ("store/part", "journal", "tmp/query-2/file"):
        file = tmp_path / "telemetry" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("the canary sings", encoding="utf-8")
    script = tmp_path / "code" / "confined.py"
    script.parent.mkdir()
    script.write_text(QUERIES, encoding="utf-8")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = subprocess.run(
            [sys.executable, "-P", str(script), str(tmp_path), str(listener.getsockname()[1])],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found.pop("store"), found.pop("own")) == ("the canary sings", "1")
    if landlock.version() < 4:
        found.pop("connect")
    for name, said in found.items():
        assert said.startswith("PermissionError"), (name, said)


@needs_landlock
def test_a_process_with_threads_cannot_be_confined(tmp_path: Path) -> None:
    code = (
        "import threading; e = threading.Event(); threading.Thread(target=e.wait, "
        "daemon=True).start()\nfrom sextant.stores.landlock import restrict\nrestrict(read=[], "
        "write=[], execute=[], connect=None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "SX-SQL-030" in done.stderr or Bug.__name__ in done.stderr


def test_a_kernel_without_it_holds_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert landlock.restrict(read=[], write=[], execute=[], connect=None) == 0


def test_sql_stays_on_loopback_where_nothing_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    for address in ("127.0.0.1:8123", "localhost:0", "[::1]:8123"):
        check_sql(address)
    for address in ("0.0.0.0:8123", "[::]:8123", "10.0.0.5:8123", ":8123"):
        with pytest.raises(UsageError, match="no Landlock"):
            check_sql(address)
    monkeypatch.setattr(landlock, "version", lambda: 1)
    check_sql("0.0.0.0:8123")
