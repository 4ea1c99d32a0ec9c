"""Rows that others push."""

from collections.abc import Mapping, Sequence
from typing import Any

from sextant.app.operations.row import operation
from sextant.app.operations.session import Session, page_limit
from sextant.kernel.answers import BatchDropped, BatchSeen, Page, Pushed
from sextant.kernel.limits import NAME_CHARS_MAX, PAGE_ROWS
from sextant.kernel.texts import check_text


class PushedOperations(Session):
    """Rows that others push."""

    @operation("POST", "/datasets/{dataset}/rows", "operator", "push", "rows", body="rows")
    def push(
        self,
        dataset: str,
        rows: Sequence[Mapping[str, Any]] | bytes,
        *,
        content_type: str = "application/json",
        batch: str = "",
        env: str = "",
    ) -> Pushed:
        """Take rows for a dataset that is declared with `sx.stream`: durable when it returns,
        published through the gate soon after. All are taken, or none.

        rows          objects, or a body: JSON (an array of objects, or an object of `rows`, `batch`
                      and `env`), lines of JSON, Arrow or Parquet. A row with `_deleted` true
                      deletes the row of its key
        content_type  of a body
        batch         identifies the rows among the sender's own: the same once more is taken once,
                      other rows of that name are a Conflict; "" = every call is new
        """
        from sextant.kinds.dataset import bodies
        from sextant.kinds.dataset.inbox import columns_of, stream_of

        asset = stream_of(self._core, dataset)
        columns_of(asset)
        body = bodies.opened(rows, content_type, batch=batch, env=env)
        check_text("line", "batch", body.batch, NAME_CHARS_MAX)  # the body may name it
        self._env(body.env)
        for where in self._core.project.environments():  # the rows come to each of them
            declared = self._core.assets.known(asset.id, where) or asset
            self._core.authorization.allow(self._who(), "push", declared, where)
        return self._p.runs.inbox.take(asset, body, by=self._who())

    @operation("GET", "/datasets/{dataset}/batches", "viewer", "read")
    def batches(
        self, dataset: str, *, refused: bool = False, limit: int = PAGE_ROWS, after: str = ""
    ) -> Page[BatchSeen]:
        """Return the pushed batches that are not part of a dataset yet: those that wait to be
        published, and those that were refused with the reason."""
        from sextant.kinds.dataset.inbox import stream_of
        from sextant.kinds.dataset.views import batches

        return batches(
            self._core,
            self._see,
            stream_of(self._core, dataset),
            refused=refused,
            limit=page_limit(limit),
            after=after,
        )

    @operation("POST", "/datasets/{dataset}/batches/drop", "operator", "drop", "batch")
    def drop_batch(
        self,
        dataset: str,
        batch: str,
        reason: str,
        *,
        sender: str = "",
        env: str = "",  # noqa: ARG002 - what the policy is asked about
    ) -> BatchDropped:
        """Give up a pushed batch that waits or was refused: its rows are gone, its name is free
        again. `sender`: who pushed it, such as `token:shop`; "" = oneself, or the only one with a
        batch of that name."""
        from sextant.kinds.dataset.inbox import stream_of

        return self._p.runs.inbox.drop(
            stream_of(self._core, dataset), batch, reason=reason, sender=sender, by=self._who()
        )
