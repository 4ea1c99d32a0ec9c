"""Personal columns and everything that is made of them, at every endpoint of a running server, with
the token of a viewer."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PEOPLE = {
    "id": [1, 2, 3],
    "city": ["Oslo", "Bern", "Oslo"],
    "age": [30, 41, 52],
    "name": ["Zq7uAnnesentinel", "Zq7uBobsentinel", "Zq7uCarlsentinel"],
    "pay": [918273645001, 918273645102, 918273645203],
    "tags": [["Zq7uTagone"], ["Zq7uTagtwo", "Zq7uTagthree"], []],
}
FORMS = ("JSON", "JSONEachRow", "CSVWithNames", "Arrow", "ArrowStream", "Parquet")
PERSONAL = ("name", "pay", "tags")
PLACES = {"city": ["Oslo", "Bern"], "land": ["Norway", "Switzerland"]}

# query -> (columns that only administrators see, columns that everybody sees)
QUERIES: dict[str, tuple[str, str]] = {
    "select * from people": ("name pay tags", "id city age"),
    "from people": ("name pay tags", "id city age"),
    "select * exclude (name) from people": ("pay tags", "id city age"),
    "select * exclude (tags) replace (upper(name) as city) from people": ("city name pay", "id age"),
    "select * rename (name as nick, city as town) from people": ("nick pay tags", "id town age"),
    "select p.* exclude (pay, tags) from people p": ("name", "id city age"),
    "select id, name as label, city from people": ("label", "id city"),
    "select id, NAME as \"Label\", City as \"Town\" from people": ("Label", "id Town"),
    "select k: id, label: name from people": ("label", "k"),
    "select id, upper(name) as x from people": ("x", "id"),
    "select id, lower(name) || '!' as x, lower(city) as y from people": ("x", "id y"),
    "select id, reverse(name) as x from people": ("x", "id"),
    "select id, md5(name) as x, md5(city) as y from people": ("x", "id y"),
    "select id, substr(name, 3, 9) as x from people": ("x", "id"),
    "select id, coalesce(null, name) as x, coalesce(null, city) as y from people": ("x", "id y"),
    "select id, case when age > 40 then name else 'n' end as x from people": ("x", "id"),
    "select id, case when name > 'Zq7uB' then 'laterhalf' else 'firsthalf' end as x from people": ("x", "id"),
    "select id, pay > 918273645100 as x, age > 40 as y from people": ("x", "id y"),
    "select id, cast(pay as varchar) as x, pay::double as y, cast(age as varchar) as z from people": ("x y", "id z"),
    "select id, pay * 3 as x, age * 3 as y from people": ("x", "id y"),
    "select id, struct_pack(a := name, b := city).a as x from people": ("x", "id"),
    "select id, struct_pack(n := name) as x, struct_pack(n := city) as y from people": ("x", "id y"),
    "select id, [name, city] as x, [city] as y from people": ("x", "id y"),
    "select id, map {'k': name} as x from people": ("x", "id"),
    "select id, to_json(p) as x from people p": ("x", "id"),
    "select id, format('{} of {}', name, city) as x from people": ("x", "id"),
    "select id, regexp_extract(name, 'Zq7u(.*)', 0) as x from people": ("x", "id"),
    "select id, encode(name) as x from people": ("x", "id"),
    "select id, base64(encode(name)) as x, hex(name) as y from people": ("x y", "id"),
    "select id, unnest(tags) as tag from people": ("tag", "id"),
    "select p.id, t.tag from people p, unnest(p.tags) as t(tag)": ("tag", "id"),
    "select id, len(tags) as x, tags[1] as y from people": ("x y", "id"),
    "select id, list_transform(tags, lambda t: t || '~') as x from people": ("x", "id"),
    "select p.id, u.x from people p, lateral (select p.name || '~' as x) u": ("x", "id"),
    "select city, count(*) as n from people group by city": ("", "city n"),
    "select city, count(name) as n, count(distinct pay) as d from people group by city": ("", "city n d"),
    "select approx_count_distinct(name) as n, count_if(pay > 1) as k from people": ("", "n k"),
    "select city, count(*) filter (where pay > 1) as n, sum(pay) filter (where age > 1) as s from people group by all": ("s", "city n"),
    "select city, sum(pay) as s, avg(pay) as a, min(pay) as i, max(pay) as x from people group by city": ("s a i x", "city"),
    "select sum(age) as s, avg(age) as a from people": ("", "s a"),
    "select any_value(name) as x, any_value(city) as y from people": ("x", "y"),
    "select string_agg(name, ';' order by id) as x, string_agg(city, ';' order by name) as y from people": ("x", "y"),
    "select list(name order by id) as x, list(city order by id) as y from people": ("x", "y"),
    "select first(name order by id) as x, last(name order by id) as y from people": ("x y", ""),
    "select arg_max(name, id) as x, arg_max(city, id) as y from people": ("x", "y"),
    "select median(pay) as x, quantile_disc(pay, 0.5) as y, mode(name) as z from people": ("x y z", ""),
    "select percentile_disc(0.5) within group (order by pay) as x from people": ("x", ""),
    "select histogram(name) as x from people": ("x", ""),
    "select id, lag(name) over (order by id) as x, lag(city) over (order by pay) as y from people": ("x", "id y"),
    "select id, row_number() over (order by name) as r, rank() over (partition by city order by pay) as k from people": ("", "id r k"),
    "select id, sum(pay) over (order by id) as x, count(*) over (partition by name) as n from people": ("x", "id n"),
    "select id, first_value(name) over w as x from people window w as (partition by city order by id)": ("x", "id"),
    "select id, nth_value(pay, 1) over (order by id) as x from people": ("x", "id"),
    "select id, x from (select id, name as x from people)": ("x", "id"),
    "select q.a, q.b from (select id, name from people) q(a, b)": ("b", "a"),
    "with q as (select id, name as x, city as y from people) select id, x || y as z, y from q": ("z", "id y"),
    "with q(a, b) as (select id, pay from people), r as (select a, b + 1 as c from q) select * from r": ("c", "a"),
    "with recursive r as (select id, name from people where id = 1 union all select id + 1, name from r where id < 3) select id, name as x from r": ("id x", ""),
    "with p as materialized (select * from people) select id, name || '^' as x from p": ("x", "id"),
    "select name as x from people union all select city from people": ("x", ""),
    "select city as x from people union all select name from people": ("x", ""),
    "select city as x from people union select land from places": ("", "x"),
    "select * from people where id = 1 union all select * from people where id > 1": ("name pay tags", "id city age"),
    "select id, city from people union all by name select id, name as city from people": ("city", "id"),
    "select name as x from people except select city from people": ("x", ""),
    "select name as x from people intersect select name from people": ("x", ""),
    "select land, (select max(p.name) from people p where p.city = q.city) as x from places q": ("x", "land"),
    "select land, (select count(*) from people p where p.city = q.city) as n from places q": ("", "land n"),
    "select land, exists (select 1 from people p where p.city = q.city and p.pay > 1) as e from places q": ("", "land e"),
    "select city, land from places where city in (select city from people where pay > 1)": ("", "city land"),
    "select p.id, p.name, q.land from people p join places q on p.city = q.city": ("name", "id land"),
    "select id, land, name as x from people join places using (city)": ("x", "id land"),
    "select * from people left join places using (city)": ("name pay tags", "id city age land"),
    "select a.id, b.name as x from people a join people b on a.id = b.id": ("x", "id"),
    "select q.land, p.name from places q asof join people p on q.city >= p.city": ("name", "land"),
    "select land from places semi join people using (city)": ("", "land"),
    "select * from (pivot (select city, age, pay from people) on city using max(pay) group by age)": ("age Bern Oslo", ""),
    "select * from (unpivot (select id, name, city from people) on name, city)": ("id name value", ""),
    "select columns('(id|name)') from people": ("id name", ""),
    "select distinct on (city) city, name as x from people order by city, id": ("x", "city"),
    "select grouping(city) as g, city, max(pay) as m from people group by rollup (city)": ("m", "g city"),
    "select city from people group by city having max(pay) > 1": ("", "city"),
    "select id, city from people qualify row_number() over (partition by city order by pay) = 1": ("", "id city"),
}  # fmt: skip
# body of a function of `people` and `places` -> the same
FUNCTIONS: dict[str, tuple[str, str]] = {
    "people": ("name pay tags", "id city age"),
    "people.select('id', 'city')": ("", "id city"),
    "people.rename({'name': 'label'})": ("label pay tags", "id city age"),
    "people.select('id', x=pl.col('name').str.to_uppercase())": ("x", "id"),
    "people.select('id', name=pl.col('name').str.to_lowercase())": ("name", "id"),
    "people.select('id', x=pl.concat_str('name', 'city'))": ("x", "id"),
    "people.group_by('city').agg(pl.col('pay').sum())": ("pay", "city"),
    "people.group_by('city').agg(total=pl.col('pay').sum())": ("total", "city"),
    "people.group_by('city').agg(n=pl.len())": ("n", "city"),
    "people.join(places, on='city').select('land', 'name')": ("name", "land"),
    "people.join(places, on='city').select('land', x='name')": ("x", "land"),
    "people.with_columns(x=pl.col('name').shift(1)).drop('name', 'pay', 'tags')": ("x", "id city age"),
    "pl.concat([people.select(x='name'), people.select(x='city')])": ("x", ""),
    "people.select('id', 'tags').explode('tags')": ("tags", "id"),
    "people.select('id', x=pl.struct('name', 'pay'))": ("x", "id"),
    "people.select('id', x=pl.col('pay').cum_sum())": ("x", "id"),
    "people.to_pandas()[['id', 'name']]": ("name", "id"),
    "people.to_arrow().select(['id', 'pay'])": ("pay", "id"),
}  # fmt: skip
# the same functions, with what the author knows to be public
PUBLIC: dict[str, tuple[str, str, str]] = {
    "people.group_by('city').agg(n=pl.len())": ("n", "", "city n"),
    "people.select('id', band=pl.col('pay') // 10**12, x='name')": ("band", "x", "id band"),
}

_HEAD = """
import polars as pl
import sextant as sx

sx.project("shop", tz="UTC", environments=["dev", "prod"], owner=sx.team("ops", members=["ann"]))


class Said:
    ok = False
    failed = 1

    def __init__(self, rows: pl.DataFrame) -> None:
        self.message = "odd: " + ", ".join(rows["name"])
        self.measured = {"pay": rows["pay"].to_list()}


@sx.check(severity="warn")
def quotes(people: pl.DataFrame) -> Said:
    return Said(people)


@sx.dataset(key="id", TAG checks=[
    sx.between("pay", 0, 10, severity="warn"), sx.accepted_values("name", ["x"], severity="warn"), quotes,
])
def people() -> pl.DataFrame:
    print("people are", PEOPLE["name"])
    return pl.DataFrame(PEOPLE).with_columns(pl.col("age") + ROUND)


@sx.dataset()
def places() -> pl.DataFrame:
    return pl.DataFrame(PLACES)


@sx.dataset()
def broken(people: pl.DataFrame) -> pl.DataFrame:
    print("about to fail for", people["name"].to_list())
    raise ValueError("cannot parse " + people["name"][0])


@sx.dataset(checks=[sx.sql_check("rich", "select name as culprit, pay from this where pay > 1"), sx.between("pay", 0, 10)])
def refused(people: pl.DataFrame) -> pl.DataFrame:
    return people


@sx.dataset(checks=[sx.accepted_values("label", ["x"], severity="warn")])
def renamed(people: pl.DataFrame) -> pl.DataFrame:
    return people.select("id", label="name")


visits = sx.stream("visits", columns={"id": "string", "who": "string", "n": "int64"}, key="id", VISITS)
heads = sx.kpi("heads", of=people, measure="count(*)", grain="", by=["city"])
mean_pay = sx.kpi("mean_pay", of=people, measure="avg(pay)", grain="", by=["city"])
open_pay = sx.kpi("open_pay", of=people, measure="avg(age)", grain="", by=["city", "name"])
said_pay = sx.kpi("said_pay", of=people, measure="sum(pay) * 0 + 7", grain="", by=["city"], public=["value"])
rows_pay = sx.kpi("rows_pay", of=people, measure="median(pay)", grain="", by=["city", "name"])
"""


def _project(root: Path, *, tagged: bool, rounds: int = 0) -> dict[str, tuple[set[str], set[str]]]:
    """Write the project; return dataset -> the columns that are hidden, and those that are not."""
    expected: dict[str, tuple[set[str], set[str]]] = {}
    text = (
        _HEAD.replace("TAG", f"personal={list(PERSONAL)!r}," if tagged else "")
        .replace("VISITS", "personal=['who']" if tagged else "")
        .replace("ROUND", str(rounds))
    )
    text = text.replace("\nvisits", f"\nPEOPLE = {PEOPLE!r}\nPLACES = {PLACES!r}\nvisits")
    for n, (query, (hidden, shown)) in enumerate(QUERIES.items()):
        if not (root / f"q{n:02}.sql").exists():
            (root / f"q{n:02}.sql").write_text(query + "\n")
        text += f'sx.sql("q{n:02}.sql")\n'
        expected[f"q{n:02}"] = set(hidden.split()), set(shown.split())
    functions = [(body, "", *both) for body, both in FUNCTIONS.items()]
    functions += [(body, public, hidden, shown) for body, (public, hidden, shown) in PUBLIC.items()]
    for n, (body, public, hidden, shown) in enumerate(functions):
        text += f"\n\n@sx.dataset(public={public.split()!r})\ndef f{n:02}(people: pl.DataFrame, places: pl.DataFrame):\n    return {body}\n"
        expected[f"f{n:02}"] = set(hidden.split()), set(shown.split())
    (root / "ops.new").write_text(text)
    (root / "ops.new").rename(root / "ops.py")
    return expected


_TOML = (
    'module = "ops"\n[server]\napi = "127.0.0.1:0"\ningest = "127.0.0.1:0"\nsql = "127.0.0.1:0"\n'
)


class Server:
    """A running server, and its endpoints as bytes."""

    def __init__(self, root: Path) -> None:
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(root.parent / "config"),
            "XDG_STATE_HOME": str(root.parent / "state"),
            "SEXTANT_USER": "ann",
        }
        words = ["-m", "sextant.cli.main", "--project", str(root), "up", "--json"]
        self.process = subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout
        self.facts = json.loads(self.process.stdout.readline())
        self.admin = self.facts["token"]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()

    def ask(self, token: str, method: str, path: str, body: Any = None, **query: Any) -> bytes:
        """Return the bytes of an answer, of an error's too."""
        url = self.facts["api"] + "/api/v1" + urllib.parse.quote(path, safe="/:@")
        request = urllib.request.Request(
            url + ("?" + urllib.parse.urlencode(query, doseq=True) if query else ""),
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                data = error.read()
                if error.code != 429:
                    return data

    def json(self, token: str, method: str, path: str, body: Any = None, **query: Any) -> Any:
        return json.loads(self.ask(token, method, path, body, **query))

    def sql(self, token: str, text: str, form: str = "JSON") -> bytes:
        """Ask at the SQL endpoint itself."""
        request = urllib.request.Request(
            self.facts["sql"] + "/?" + urllib.parse.urlencode({"default_format": form}),
            data=text.encode(),
            headers={"authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return error.read()

    def stream(self, token: str, last: int) -> bytes:
        """Return the live stream from the first entry of the ledger to one."""
        request = urllib.request.Request(
            self.facts["api"] + "/api/v1/stream?after=-1",
            headers={"authorization": f"Bearer {token}"},
        )
        out = b""
        with urllib.request.urlopen(request, timeout=120) as answer:
            for line in answer:
                out += line
                if line.startswith(f"id: {last}\n".encode()):
                    return out + answer.readline() + answer.readline()
        raise AssertionError("the stream ended")


def _until(what: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it does not come"
    return found


class World:
    def __init__(self, server: Server, expected: dict[str, tuple[set[str], set[str]]]) -> None:
        self.server, self.expected = server, expected
        self.before: dict[str, bytes] = {}  # what could be got before anything was made again
        self.viewer, self.operator = (
            server.json(
                server.admin,
                "POST",
                "/tokens",
                {"name": role, "role": role, "scopes": ["api", "query"], "teams": ["ops"]},
            )["secret"]
            for role in ("viewer", "operator")
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A project whose people are not marked as personal while everything is made a first time,
    refused and logged; then they are, and everything is made again."""
    root = tmp_path_factory.mktemp("personal") / "shop"
    root.mkdir()
    (root / "sextant.toml").write_text(_TOML)
    _project(root, tagged=False)
    server = Server(root)
    try:
        first = server.json(server.admin, "POST", "/runs", {})
        assert first["published"], first
        server.json(
            server.admin,
            "POST",
            "/datasets/visits/rows",
            {"rows": [{"id": "a", "who": "Zq7uVisitor", "n": 1}], "batch": "one"},
        )
        server.json(server.admin, "POST", "/runs", {"assets": ["visits"]})
        expected = _project(root, tagged=True, rounds=1)
        made = World(server, expected)
        # from here on nothing is to be seen; the second run has it in its own versions
        server.ask(made.viewer, "GET", "/plan")
        _until(lambda: "name" not in _columns_of(server.sql(made.viewer, _PEOPLE)))
        made.before = _surfaces(made, ("JSON",))
        server.json(server.admin, "POST", "/runs", {"stale": True})
        server.json(
            server.admin,
            "POST",
            "/runs",
            {
                "assets": ["+people", "+refused", "+broken"],
                "force": True,
                "env": "prod",
            },
        )
        yield made
    finally:
        server.end()


_PEOPLE = "SELECT * FROM data.people"


def _columns_of(answer: bytes) -> set[str]:
    """Return the columns of a JSON answer; that of an error has none, and is no answer yet."""
    try:
        return {one["name"] for one in json.loads(answer)["meta"]}
    except ValueError:
        return {"name"}


def _surfaces(world: World, forms: tuple[str, ...] = FORMS) -> dict[str, bytes]:
    """Return everything that the viewer's token gets, by where it came from."""
    s, viewer = world.server, world.viewer
    found: dict[str, bytes] = {}

    def get(path: str, **query: Any) -> bytes:
        found[f"GET {path} {query}"] = data = s.ask(viewer, "GET", path, **query)
        return data

    def sql(text: str, form: str = "JSON") -> None:
        found[f"SQL {form} {text}"] = s.sql(viewer, text, form)
        if "data." not in text:  # the same endpoint, asked by the API
            found[f"query {text}"] = s.ask(viewer, "POST", "/query", {"sql": text})

    names = [*world.expected, "people", "places", "refused", "renamed", "broken", "visits"]
    names += [f"kpi_{k}" for k in ("heads", "mean_pay", "open_pay", "said_pay", "rows_pay")]
    for name in names:
        asset = f"dataset:{name}"
        get(f"/assets/{asset}", limit=100)
        for form in forms:
            data = get(f"/assets/{asset}/rows", form=form)
            if form == "Parquet" and data.startswith(b"PAR1"):  # it is compressed
                rows = pq.read_table(pa.BufferReader(data)).to_pylist()
                found[f"Parquet {asset}"] = repr(rows).encode()
        for column in world.expected.get(name, ((), ()))[0]:
            get(f"/assets/{asset}/rows", columns=column)
        versions = json.loads(get(f"/assets/{asset}/versions"))
        for one in versions.get("items", []):
            get(f"/assets/{asset}", as_of=one["version"], limit=100)
            get(f"/assets/{asset}/rows", as_of=one["version"])
            sql(f'SELECT * FROM data."{name}@{one["version"][:12]}"')
        get("/diff", a=asset)
        get(f"/why/{asset}")
        get(f"/assets/{asset}/partitions", details=True)
        get(f"/assets/{asset}/profile")
        get(f"/assets/{asset}/rollbacks")
        get(f"/assets/{asset}/timeline", limit=1000)
        get(f"/assets/{asset}/changes", limit=1000)
        get("/checks", asset=asset)
        sql(f"SELECT * FROM data.{name}")
        if forms == FORMS:
            sql(f"SELECT * FROM data.{name}", "Native")
        for column in world.expected.get(name, ((), ()))[0]:
            sql(f"SELECT `{column}` FROM data.{name}")
    for name, by in {
        "heads": "city",
        "mean_pay": "city",
        "open_pay": "name",
        "said_pay": "city",
        "rows_pay": "name",
    }.items():
        get(f"/kpis/{name}")
        get(f"/kpis/{name}", by=[by])
        get(f"/kpis/{name}", by=["city"], where="name > 'Zq7uB'")
        get(f"/assets/kpi:{name}")
        get(f"/why/kpi:{name}")
        sql(f"SELECT * FROM kpi.{name}")
        sql(f"SELECT value FROM kpi.{name}")
    for q in ("sig_", "inc_", "run_", "rel_", "people", "city", *"0123456789abcdef"):
        get("/search", q=q * 4 if len(q) == 1 else q, limit=200)
    for path in (
        "/status",
        "/plan",
        "/graph",
        "/graph/picture",
        "/signals",
        "/incidents",
        "/releases",
        "/checks",
        "/log",
        "/doctor",
        "/project",
        "/environments/dev/diff/prod",
        "/datasets/visits/batches",
    ):
        get(path)
    for run in json.loads(get("/runs", limit=100))["items"]:
        get(f"/runs/{run['id']}")
        get("/log", run=run["id"])
        get(f"/why/{run['id']}")
    for release in json.loads(get("/releases", limit=100))["items"]:
        get(f"/releases/{release['id']}")
        get(f"/why/{release['id']}")
    for one in json.loads(get("/signals", limit=100))["items"]:
        get(f"/why/{one['id']}")
    page = json.loads(get("/ledger/events", limit=1000))
    events = list(page["items"])
    while page["next"]:
        page = json.loads(get("/ledger/events", limit=1000, after=page["next"]))
        events += page["items"]
    s.ask(s.admin, "POST", "/ledger/checkpoints", {})
    for event in events:
        if event["type"] in (
            "checks.completed",
            "signal.raised",
            "run.finished",
            "release.rejected",
        ):
            path = f"/ledger/events/{event['seq']}/proof"
            found[f"POST {path}"] = s.ask(viewer, "POST", path, {})
    found["stream"] = s.stream(viewer, max(event["seq"] for event in events))
    for table in (
        "runs",
        "steps",
        "versions",
        "releases",
        "checks",
        "signals",
        "incidents",
        "assets",
        "events",
    ):
        sql(f"SELECT * FROM ops.{table}")
    for table in ("logs", "spans", "events"):
        sql(f"SELECT * FROM obs.{table}")
    sql("SELECT body FROM obs.logs WHERE body LIKE '%Zq%' OR hasToken(body, 'people')")
    sql("SELECT * FROM system.tables")
    sql("SELECT * FROM system.columns WHERE database IN ('data', 'kpi')")
    return found


def _values(value: Any) -> Iterator[str]:
    """Yield what could be found again of a value."""
    if isinstance(value, dict):
        for one in value.values():
            yield from _values(one)
    elif isinstance(value, list):
        for one in value:
            yield from _values(one)
    elif isinstance(value, str) and len(value) > 6:
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool) and value > 10**6:
        yield str(value).removesuffix(".0")


def _secrets(world: World) -> set[str]:
    """Return the values of all hidden columns, as an administrator reads them."""
    s, found = world.server, {"Zq7u", "Zq7uVisitor"}
    for column in PERSONAL:
        found |= set(_values(PEOPLE[column]))
    for name, (hidden, _) in world.expected.items():
        for row in s.json(s.admin, "GET", f"/assets/dataset:{name}/rows"):
            for column in hidden:
                found |= set(_values(row[column]))
    return {one for one in found if one not in {*PLACES["city"], *PLACES["land"]}}


def _forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield from (raw, raw.lower(), raw.upper(), raw.hex().encode(), raw.hex().upper().encode())
    yield json.dumps(secret)[1:-1].encode()
    yield raw.decode().encode("utf-16-le")
    for pad in range(3):  # base64 of a longer text that contains it, at each alignment
        whole = base64.b64encode(b"\0" * pad + raw)
        yield whole[(0, 2, 3)[pad] : len(whole) - 4].rstrip(b"=")
    if secret.isdigit():
        yield int(secret).to_bytes(8, "little")


def _found(surfaces: dict[str, bytes], secrets: set[str]) -> list[str]:
    needles = {form for one in secrets for form in _forms(one) if len(form) > 5}
    pattern = re.compile(b"|".join(sorted(map(re.escape, needles), key=len, reverse=True)))
    out = []
    for place, data in surfaces.items():
        asked = place.encode()  # a question may be repeated in an error
        for match in pattern.finditer(data):
            if match[0] not in asked:
                out.append(
                    f"{place}: {match[0]!r} in {data[max(0, match.start() - 200) : match.end() + 80]!r}"
                )
                break
    return out


def _report(found: list[str]) -> None:
    assert not found, f"{len(found)} places:\n" + "\n".join(found[:40])


def test_the_derivations_are_a_hundred() -> None:
    assert len(QUERIES) + len(FUNCTIONS) + len(PUBLIC) >= 100


def test_a_viewer_gets_no_personal_value_anywhere(world: World) -> None:
    """If this fails, a value of a person leaves by some endpoint."""
    secrets = _secrets(world)
    assert len(secrets) > 60
    surfaces = _surfaces(world)
    assert len(surfaces) > 1500
    _report(_found(surfaces, secrets))


def test_what_was_made_before_the_columns_were_marked_is_hidden(world: World) -> None:
    """If this fails, versions, messages and logs from before stay open."""
    _report(_found(world.before, _secrets(world)))


def test_everything_else_stays_visible(world: World) -> None:
    """If this fails, a column or a count is hidden that has nothing personal in it."""
    s = world.server
    for name, (hidden, shown) in world.expected.items():
        rows = s.json(world.viewer, "GET", f"/assets/dataset:{name}/rows", form="JSON")
        if not shown:
            assert rows["title"].startswith("all columns of"), rows
            rows = []
        everything = s.json(s.admin, "GET", f"/assets/dataset:{name}/rows", form="JSON")
        seen, whole = {k for row in rows for k in row}, {k for row in everything for k in row}
        assert whole, name
        assert (seen, whole - seen) == (shown, hidden), name
        columns = json.loads(s.sql(world.viewer, f"SELECT * FROM data.{name}"))["meta"]
        assert {one["name"] for one in columns} - {"_partition"} == shown, name
        facts = s.json(world.viewer, "GET", f"/assets/dataset:{name}")
        assert set(facts["personal"]) == hidden, name
    counted = s.json(world.viewer, "GET", "/kpis/heads", by=["city"])["rows"]
    assert counted == [{"city": "Bern", "value": 1}, {"city": "Oslo", "value": 2}]
    mean = s.json(world.viewer, "GET", "/kpis/mean_pay", by=["city"])
    assert [row["value"] for row in mean["rows"]] == ["***", "***"]
    assert mean["hidden"] == ["value"]
    by_name = s.json(world.viewer, "GET", "/kpis/open_pay", by=["name", "city"])
    assert by_name["hidden"] == ["name"]
    assert [row["city"] for row in by_name["rows"]] == ["Bern", "Oslo"]
    assert [r["value"] for r in s.json(world.viewer, "GET", "/kpis/said_pay")["rows"]] == [7.0]
    sql = json.loads(s.sql(world.viewer, "SELECT city, value FROM kpi.said_pay ORDER BY city"))
    assert [row["value"] for row in sql["data"]] == [7.0, 7.0]
    plan = s.json(world.viewer, "GET", "/plan")
    assert plan["personal"]["dataset:renamed"] == ["label"]
    assert "dataset:places" not in plan["personal"]


def test_administrators_and_the_folder_read_on(world: World) -> None:
    """If this fails, nobody can look into what went wrong."""
    s = world.server
    runs = [one["id"] for one in s.json(s.admin, "GET", "/runs", limit=100)["items"]]
    logs = b"".join(s.ask(s.admin, "GET", "/log", run=run) for run in runs)
    assert b"people are ['Zq7uAnne" in logs
    assert b"quote personal" in b"".join(
        s.ask(world.viewer, "GET", "/log", run=run) for run in runs
    )
    assert b"Zq7uAnne" in s.sql(s.admin, "SELECT * FROM ops.steps")
    assert b"Zq7uAnne" in s.sql(s.admin, "SELECT * FROM obs.logs")
    assert b"administrator" in s.sql(world.viewer, "SELECT * FROM ops.steps")
    assert b"administrator" in s.ask(world.viewer, "GET", "/checks", asset="dataset:people")


def test_an_operator_who_is_no_administrator_reads_no_more(world: World) -> None:
    """If this fails, a run's report, or checks asked for by hand, quote values."""
    s = world.server
    found = {
        "POST /checks": s.ask(world.operator, "POST", "/assets/dataset:people/checks", {}),
        "POST /runs": s.ask(
            world.operator,
            "POST",
            "/runs",
            {"assets": ["people", "refused", "broken"], "force": True},
        ),
    }
    assert b"rows fail" in found["POST /checks"]
    assert b"dataset:broken" in found["POST /runs"]
    _report(_found(found, _secrets(world)))
