"""Telemetry, and SQL over everything."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sextant.app.operations.row import operation
from sextant.app.operations.session import Session, page_limit
from sextant.kernel.answers import (
    LogsFound,
    MetricFacts,
    MetricsFound,
    ServicesFound,
    TraceFacts,
    TracesFound,
)
from sextant.kernel.limits import PAGE_ROWS

if TYPE_CHECKING:
    from sextant.app.telemetry.asking import Asking


class TelemetryOperations(Session):
    """Telemetry, and SQL over everything."""

    @operation("POST", "/query", "viewer", "read", scope="query")
    def query(self, sql: str, *, form: str = "JSON", params: dict[str, str] | None = None) -> bytes:
        """Answer a question in ClickHouse's SQL over data, telemetry, ledger and KPIs, in one of
        its formats. Read-only."""
        who = self._who()  # who has the folder has all of it
        return self._p.ask(sql, form, params or {}, who.role or "admin", who.person)

    @operation("GET", "/telemetry/logs", "viewer", "read", scope="query")
    def search_logs(
        self,
        *,
        search: str = "",
        exact: bool = False,
        asset: str = "",
        attributes: Sequence[str] = (),
        level: str = "",
        trace: str = "",
        since: str = "1h",
        until: str = "",
        limit: int = PAGE_ROWS,
    ) -> LogsFound:
        """Return the newest log lines that meet all conditions, of everything that sends any (what
        the steps of one run printed: `log`).

        search      words and "phrases"; a line has all of them, in any case, as a part of its text
                    or of an attribute's value
        exact       the words stand in the text as they are written, as whole words: an index finds
                    them however long ago
        asset       an id, or a name that only one asset has
        attributes  each KEY=VALUE, of the line or of what sent it
        level       at least so severe: trace, debug, info, warn, error, fatal
        since       a length back from now, such as 30m, or a time; `until` likewise
        """
        from sextant.app.telemetry import logs

        return logs.search_logs(
            self._asking(),
            search=search,
            exact=exact,
            asset=asset,
            attributes=attributes,
            level=level,
            trace=trace,
            since=since,
            until=until,
            limit=page_limit(limit),
        )

    @operation("GET", "/telemetry/traces", "viewer", "read", scope="query")
    def traces(
        self,
        *,
        asset: str = "",
        name: str = "",
        attributes: Sequence[str] = (),
        failed: bool = False,
        min_duration: str = "",
        slowest: bool = False,
        since: str = "1h",
        until: str = "",
        limit: int = 20,
    ) -> TracesFound:
        """Return the newest traces, or the slowest ones, that meet all conditions.

        asset, name, attributes  a span of the trace is of this asset, has this in its name, and
                                 these KEY=VALUE (of its own or of what sent it)
        failed                   only traces with an error
        min_duration             only those that took at least so long, such as 500ms or 2s
        since                    a length back from now, or a time; `until` likewise. A trace that
                                 began before is shown whole
        """
        from sextant.app.telemetry import traces as traces_

        return traces_.traces(
            self._asking(),
            asset=asset,
            name=name,
            attributes=attributes,
            failed=failed,
            min_duration=min_duration,
            slowest=slowest,
            since=since,
            until=until,
            limit=limit,
        )

    @operation("GET", "/telemetry/traces/{trace}", "viewer", "read", scope="query")
    def trace_facts(self, trace: str, *, under: str = "", limit: int = 500) -> TraceFacts:
        """Return a trace by its id, its first 4 or more digits, or a `traceparent`: how many spans
        and errors it has, and at most `limit` of its spans as a tree. Of a larger one the roots,
        the errors and the slowest are chosen.

        under  a span's id, or its first digits: it, and what stands below it
        """
        from sextant.app.telemetry import traces as traces_

        return traces_.trace_facts(self._asking(), trace, under=under, limit=limit)

    @operation("GET", "/telemetry/services", "viewer", "read", scope="query")
    def services(
        self, *, since: str = "1h", until: str = "", limit: int = PAGE_ROWS
    ) -> ServicesFound:
        """Return what sent telemetry lately, with the requests that it answered by its spans: how
        many a second, errors, 95th percentile of duration. Those with errors first, then the
        busiest.

        since   a length back from now, such as 30m, or a time; `until` likewise
        """
        from sextant.app.telemetry import services as services_

        return services_.services(self._asking(), since=since, until=until, limit=page_limit(limit))

    @operation("GET", "/telemetry/metrics", "viewer", "read", scope="query")
    def metrics(
        self, *, search: str = "", asset: str = "", since: str = "1h", limit: int = PAGE_ROWS
    ) -> MetricsFound:
        """Return metrics that had a value lately, by name; a histogram is one.

        search  a part of the name
        since   a length back from now, or a time
        """
        from sextant.app.telemetry import metrics as metrics_

        return metrics_.metrics(
            self._asking(), search=search, asset=asset, since=since, limit=page_limit(limit)
        )

    @operation("GET", "/telemetry/metric", "viewer", "read", scope="query")
    def metric(
        self,
        name: str,
        *,
        by: Sequence[str] = (),
        labels: Sequence[str] = (),
        asset: str = "",
        rate: bool = False,
        quantiles: Sequence[str] = (),
        since: str = "1h",
        until: str = "",
        limit: int = PAGE_ROWS,
    ) -> MetricFacts:
        """Return the series of a metric: last, lowest and highest value, and how it went; of a
        histogram how many values it took, their average and quantiles.

        name    as it was sent: also that of a histogram, without `_total`, with `.` or `_`
        by      sum up by these labels; none = each series by itself
        labels  only series with these LABEL=VALUE
        rate    growth each second, from five minutes to five minutes; of a counter
        quantiles  levels from 0 to 1, of a histogram; none = 0.5, 0.95 and 0.99
        since   a length back from now, or a time; `until` likewise
        """
        from sextant.app.telemetry import metrics as metrics_

        return metrics_.metric(
            self._asking(),
            name,
            by=by,
            labels=labels,
            asset=asset,
            rate=rate,
            quantiles=quantiles,
            since=since,
            until=until,
            limit=page_limit(limit),
        )

    def _asking(self) -> "Asking":
        from sextant.app.telemetry.asking import Asking

        return Asking(self._core, self._p.ask, self._who())
