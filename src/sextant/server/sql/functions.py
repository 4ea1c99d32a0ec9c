"""Which of ClickHouse's functions an untrusted query may call. Called by the guard; the list of
names itself is `known.py`.

`known.py` holds every function of the ClickHouse that we ship, without those in DENIED. So a
function that a later version brings is
refused until somebody has looked at it: a test compares the two, and `python -m
sextant.server.sql.functions` writes the file anew.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from sextant.kernel.ports import Telemetry

# Why a function is refused -> patterns of names, compared without case. What is not pure, or asks
# about the machine, the process, the server's settings, other tables or other people, is no part of
# a question about data.
DENIED = {
    "it reads files": ("file", "catboostevaluate", "evalmlmethod"),
    "it calls other machines": ("ai[a-z]+", "reversednsquery", "showcertificate"),
    "it reads tables or dictionaries whose names are not seen in the query": (
        "dict[a-z0-9]+",
        "joinget.*",
        "regionto.*",
        "regionin",
        "regionhierarchy",
        "hascolumnintable",
    ),
    "it reads what somebody configured on the machine": (
        "naivebayesclassifier.*",
        "lemmatize",
        "stem",
        "synonyms",
        "detect[a-z0-9]+",
        "getmacro",
        "assigncentroid",
    ),
    "it tells about the machine": (
        "hostname",
        "fullhostname",
        "fqdn",
        "displayname",
        "filesystem.*",
        "getoskernelversion",
        "uptime",
        "tcpport",
        "getserverport",
        "serveruuid",
        "buildid",
        "revision",
        "zookeeper.*",
        "chdb",
    ),
    "it tells about settings and people": (
        "getsetting.*",
        "getserversetting",
        "getmergetreesetting",
        "globalvariable",
        "currentprofiles",
        "enabledprofiles",
        "defaultprofiles",
        "currentroles",
        "enabledroles",
        "defaultroles",
        "authenticateduser",
        "authuser",
        "getclienthttpheader",
        "currentrequesturl",
        "currenthandler",
    ),
    "it looks into the running process": (
        "addressto.*",
        "demangle",
        "tid",
        "logtrace",
        "hasthreadfuzzer",
        "transaction.*",
        "mergetreepart.*",
        "ismergetreepart.*",
        "getmaxtablenamelengthfordatabase",
        "generateserialid",
        "errorcodetoname",
        "runningconcurrency",
    ),
    "it holds a place among the running queries while it does nothing": ("sleep.*",),
    "it takes a format by name, and formats can read schema files": ("formatrow.*", "groupformat"),
    "it makes an aggregate of any type out of bytes or a name": (
        "initializeaggregation",
        "finalizeaggregation",
        "runningaccumulate",
    ),
    "it exists for tests of ClickHouse itself": (
        "fuzzquery",
        "aggthrow",
        "nothing.*",
        "flamegraph",
    ),
    "it is internal to ClickHouse": ("__.*",),
}
# Words of the grammar that ClickHouse parses into functions but does not list among them.
GRAMMAR = frozenset({"lambda", "exists", "untuple", "grouping"})
# Functions of ours, which the migrations of the telemetry store make.
OWN = frozenset({"histogramquantile"})
# Table functions that make rows out of their arguments. `view` holds a query, which is judged like
# any other part.
TABLE_FUNCTIONS = frozenset(
    {
        "numbers",
        "numbers_mt",
        "zeros",
        "zeros_mt",
        "generateseries",
        "generate_series",
        "primes",
        "generaterandom",
        "values",
        "sqlstandardvalues",
        "null",
        "view",
    }
)
# Table functions whose first argument may be a list of columns, in which expressions can stand
# behind these words.
STRUCTURED = frozenset({"values", "sqlstandardvalues", "generaterandom", "null"})
EXPRESSIONS = re.compile(
    r"\b(?:default|materialized|alias|ephemeral|ttl|codec|statistics|constraint|check|assume|index|projection|settings|primary|auto_increment)\b",
    re.IGNORECASE,
)
# Functions that take a type by name, and the argument that it is (-1 = the last).
TYPED = {
    "cast": 1,
    "_cast": 1,
    "accuratecast": 1,
    "accuratecastornull": 1,
    "accuratecastordefault": 1,
    "reinterpret": 1,
    "defaultvalueoftypename": 0,
    "dynamicelement": 1,
    "jsonextract": -1,
    "jsonextractcaseinsensitive": -1,
    "jsonextractkeysandvalues": -1,
    "jsonextractkeysandvaluescaseinsensitive": -1,
}
# Functions that take an aggregate by name, and the argument that it is.
NAMED = {"arrayreduce": 0, "arrayreduceinranges": 0}
AGGREGATE = re.compile(r"'\s*([A-Za-z_]\w*)\s*(?:\([^()]*\)\s*)?'")  # `'quantile(0.5)'`
STATE = re.compile(r"(?<!Simple)AggregateFunction\s*\(")
# Endings that make another aggregate out of one (system.aggregate_function_combinators).
COMBINATORS = (
    "if",
    "array",
    "map",
    "foreach",
    "distinct",
    "ordefault",
    "ornull",
    "resample",
    "argmin",
    "argmax",
    "state",
    "simplestate",
    "merge",
    "null",
    "tuple",
)
_DENIED = [(re.compile(pattern), why) for why, patterns in DENIED.items() for pattern in patterns]


def denied(name: str) -> str:
    """Say why a function is refused, "" for one that is not on the list of the refused."""
    name = name.lower()
    return next((why for pattern, why in _DENIED if pattern.fullmatch(name)), "")


def allowed(name: str) -> bool:
    """Say whether a function, or an aggregate with combinators, may be called."""
    from sextant.server.sql.known import AGGREGATES, FUNCTIONS

    name = name.lower()
    if name in FUNCTIONS or name in AGGREGATES or name in GRAMMAR or name in OWN:
        return True
    open_ = {name}
    while open_:  # sumArrayIf: take endings off in every order in which they can be read
        one = open_.pop()
        for ending in COMBINATORS:
            if one.endswith(ending) and len(one) > len(ending):
                rest = one[: -len(ending)]
                if rest in AGGREGATES:
                    return True
                open_.add(rest)
    return False


def render(functions: Iterable[str], aggregates: Iterable[str], version: str) -> str:
    """Return the text of `known.py` for the names that a ClickHouse lists."""

    def block(name: str, names: Iterable[str]) -> list[str]:
        kept = sorted({one.lower() for one in names if not denied(one)})
        lines = [f"{name} = frozenset(", '    """']
        line = "   "
        for one in kept:
            if len(line) + len(one) > 98:
                lines.append(line)
                line = "   "
            line += f" {one}"
        return [*lines, line, '    """.split()  # noqa: SIM905', ")"]

    head = [
        f'"""The functions of ClickHouse {version} that may be called, in small letters.',
        "",
        "Written by `python -m sextant.server.sql.functions`: edit that.",
        '"""',
        "",
    ]
    return "\n".join([*head, *block("FUNCTIONS", functions), *block("AGGREGATES", aggregates), ""])


def listed(store: Telemetry) -> tuple[list[str], list[str], str]:
    """Return functions, aggregates and version of a store's ClickHouse."""
    rows = [
        row.split("\t")
        for row in store.query(
            "SELECT name, is_aggregate FROM system.functions WHERE origin = 'System'", form="TSV"
        )
        .decode()
        .splitlines()
    ]
    version = store.query("SELECT version()", form="TSV").decode()
    return (
        [name for name, aggregate in rows if aggregate == "0"],
        [name for name, aggregate in rows if aggregate == "1"],
        ".".join(version.split(".")[:2]),
    )


def write() -> None:
    """Write `known.py` for the ClickHouse in this environment."""
    import tempfile

    from sextant.stores.telemetry.chdb import ChdbStore

    with tempfile.TemporaryDirectory() as folder:
        store = ChdbStore(Path(folder))
        Path(__file__).with_name("known.py").write_text(render(*listed(store)), encoding="utf-8")
        store.close()


if __name__ == "__main__":
    write()
