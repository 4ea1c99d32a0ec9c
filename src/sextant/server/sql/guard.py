"""Judges an untrusted query: one statement that only reads, only what is open, by functions that
are known. Called by the endpoint.

The judgement rests on ClickHouse's own parser, not on one of ours:

1. `formatQuerySingleLine` parses the text (as a bound parameter) and renders it: one statement, no
comments, one way of quoting.
2. The rendering is cut into tokens. FORMAT and SETTINGS are taken off its end; OUTFILE is refused;
statements that are not selects are
   turned into selects; names of tables are replaced by what stands behind them.
3. `EXPLAIN AST` of the result, in parentheses, shows what ClickHouse parsed. Every node must be of
a known kind, every function on the
   list, every table open. What runs is exactly the text whose tree was judged.

Three things do not stand in that tree, and are judged by their tokens or forbidden: the functions
of `* APPLY f`, a function given by its bare name (`arrayMap(file, x)`), and names inside string
literals, for which the functions that take such names are refused.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from sextant.kernel.errors import Denied, UsageError, UserError
from sextant.kernel.ports import Telemetry
from sextant.server.sql import functions, tree
from sextant.server.sql.names import Names, identifiers, with_names
from sextant.server.sql.settings import tail
from sextant.server.sql.statements import as_select
from sextant.server.sql.tokens import cut

TEXT_BYTES_MAX = 256 << 10  # ClickHouse's own bound on the text of a query (max_query_size)
_JUDGED_KEPT = 512  # judgements kept: dashboards ask the same again and again


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A query that may run.

    sql       what to run: exactly the text that was judged
    form      the format that the text itself asked for, "" for none
    settings  what it asked for of `LIMITS` and `ANSWERS`
    tables    the names it reads, as asked for
    """

    sql: str
    form: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    tables: tuple[str, ...] = ()


class Guard:
    """Judges queries with the parser of one store. Safe to call from several threads."""

    def __init__(self, store: Telemetry) -> None:
        rows = store.query(
            "SELECT lower(name), is_aggregate OR ifNull(higher_order, 1) = 0 FROM system.functions",
            form="TabSeparated",
        ).decode()
        listed = dict(row.split("\t") for row in rows.splitlines())
        self._store = store
        # By its bare name a function can be handed to another that takes lambdas. These may not be;
        # the list is the running ClickHouse's.
        self._running = tree.Running(
            frozenset(name for name in listed if not functions.allowed(name)),
            frozenset(name for name, plain in listed.items() if plain == "1"),
        )
        self._kept: OrderedDict[object, Judged] = OrderedDict()
        self._lock = threading.Lock()

    def judge(
        self,
        sql: str,
        names: Names,
        *,
        database: str = "data",
        params: Mapping[str, str] | None = None,
    ) -> Judged:
        """Return what may run for a query as written.

        names     what tables mean; database  where a table without one is looked for; params
                  `{name:Type}` -> value as text
        Raises    Denied for what may not be asked; UsageError for what ClickHouse cannot parse, or
                  does not know
        """
        params = params or {}
        key = (
            sql,
            database,
            tuple(sorted(params.items())) if "identifier" in sql.lower() else (),
            names.generation(),
        )
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        judged = self._judge(sql, names, database, params)
        with self._lock:
            self._kept[key] = judged
            while len(self._kept) > _JUDGED_KEPT:
                self._kept.popitem(last=False)
        return judged

    def _judge(self, sql: str, names: Names, database: str, params: Mapping[str, str]) -> Judged:
        if database not in names.databases():
            raise UsageError(
                "SX-SQL-004",
                f"there is no database `{database[:80]}`",
                hint=f"there are {', '.join(sorted(names.databases()))}",
            )
        text = self._rendered(sql)
        text, found = identifiers(text, cut(text), params)
        text, form, settings = tail(text, found)
        head, text, end, described = as_select(text, cut(text), names, database)
        found = cut(text)
        if any(token.kind == "word" and token.text == "OUTFILE" for token in found):
            raise Denied(
                "SX-SQL-001",
                "a query cannot write a file",
                hint="leave INTO OUTFILE out; the answer comes back to you",
            )
        text, behind, tables = with_names(text, found, names, database)
        applied = tree.check_applied(cut(text))
        if not described:
            tree.check(
                self._ask(f"EXPLAIN AST (\n{text}\n)", params, text).splitlines(),
                names,
                behind,
                self._running,
                applied,
            )
        return Judged(sql=f"{head}{text}{end}", form=form, settings=settings, tables=tuple(tables))

    def _rendered(self, sql: str) -> str:
        if len(sql.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
            raise UsageError(
                "SX-SQL-007",
                f"the query is longer than {TEXT_BYTES_MAX >> 10} KiB",
                hint="put long lists of values into parameters, or a table",
            )
        if any(
            (ord(char) < 32 and char not in "\t\n\r\f") or "\ud800" <= char <= "\udfff"
            for char in sql
        ):
            raise UsageError(
                "SX-SQL-007",
                "the query has control characters in it",
                hint="escape them in the string, as in 'a\\0b'",
            )
        if not sql.strip().strip(";"):
            raise UsageError(
                "SX-SQL-007",
                "the query is empty",
                hint="send it as `?query=` or as the body of a POST",
            )
        rendered = self._ask(
            "SELECT formatQuerySingleLine(unhex({sx:String}))", {"sx": sql.encode().hex()}, sql
        )
        return rendered.rstrip("\n")

    def _ask(self, question: str, params: Mapping[str, str], shown: str) -> str:
        """Ask the parser. What it says about our question is turned into what it says about the
        caller's."""
        try:
            return self._store.ask(question, form="TSVRaw", params=params).decode()
        except UnicodeDecodeError:  # '\xff' is written without its escape
            raise UsageError(
                "SX-SQL-007",
                "the query has bytes in it that are not UTF-8 once they are read",
                hint="write them as unhex('ff')",
            ) from None
        except UserError as error:  # which quotes a query of ours: said once, in our words
            said = re.sub(
                r": [Ii]n scope SELECT formatQuerySingleLine.*?(?=\. \([A-Z_]+\)|\Z)",
                "",
                error.message.removeprefix("the query is not right: "),
                flags=re.DOTALL,
            )
            if "Multi-statements" in said:
                raise Denied(
                    "SX-SQL-001",
                    "only one statement can be asked at a time",
                    hint="send the statements one by one",
                ) from None
            if "Syntax error" in said:
                said = (
                    re.sub(r"Expected one of: .*", "", said, flags=re.DOTALL)
                    if len(said) > 160
                    else said
                )
                raise UsageError(
                    "SX-SQL-007",
                    said.strip(),
                    hint="the SQL is ClickHouse's; see docs/concepts/sql.md",
                    where=shown[:80],
                ) from None
            raise UsageError(
                "SX-SQL-007", said.strip(), hint="the SQL is ClickHouse's; see docs/concepts/sql.md"
            ) from None


def judge(sql: str, store: Telemetry, names: Names) -> Judged:
    """Judge one query; see `Guard.judge`. For many, keep a Guard."""
    return Guard(store).judge(sql, names)
