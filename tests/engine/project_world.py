"""People of several teams who edit rules and code, upload, release, run, undo, approve and break the
glass, in any order; and an oracle that knows what the rules in force in prod allow. It stands on the
texts of the project alone, not on what the platform makes of them."""

import contextlib
import hashlib
import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sextant import testing
from sextant.app.operations import Operations
from sextant.app.watch import tick
from sextant.engine.plan import Request
from sextant.kernel.errors import SextantError
from sextant.kernel.nouns import Principal, Release
from sextant.ledger.log import entries
from sextant.project import loading

AT = datetime(2026, 1, 5, tzinfo=UTC)
PEOPLE = ("ann", "bob", "cat", "eve")
_FAR = 1 << 62


class Text(NamedTuple):
    """One state of the project's file.

    ops, sec  who is in these teams
    ask       so many of a team must approve what comes to prod, in whatever rules there are
    denied    who may release nothing to prod
    code      what `orders` holds
    """

    ops: tuple[str, ...]
    sec: tuple[str, ...]
    ask: tuple[tuple[str, int], ...]
    denied: tuple[str, ...]
    code: int

    def file(self, nonce: int) -> str:
        lines = [
            "import polars as pl",
            "import sextant as sx",
            f"ops = sx.team('ops', members={list(self.ops)!r})",
            f"sec = sx.team('sec', members={list(self.sec)!r})",
            "sx.project('shop', tz='UTC', owner=ops)",
        ]
        prod = "verb == 'release' && env == 'prod' && asset.kind == 'project'"
        for team, count in self.ask:
            asks = f"then=sx.approval({count}, of={team})"
            lines.append(f'sx.policy("asks {team}", when="{prod}", {asks})')
        for person in self.denied:
            when = f"{prod} && principal.name == '{person}'"
            lines.append(f'sx.policy("not {person}", when="{when}", then="deny")')
        lines += [
            "@sx.dataset(on=sx.inputs())",
            "def orders() -> pl.DataFrame:",
            f"    return pl.DataFrame({{'n': [{self.code}]}})",
            f"# {nonce}",
        ]
        return "\n".join(lines) + "\n"


class Wrong(AssertionError):
    """What the rules in force in prod did not allow."""


class World:
    """One project, in a temporary folder. Use as a context manager."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self.texts: dict[str, Text] = {}  # by version of the project
        self._nonce = itertools.count()
        self._folder_text = Text(("ann", "bob"), ("cat",), (), (), 1)
        self._stack = contextlib.ExitStack()
        self._seen = -1  # sequence number of the newest event that was judged

    def __enter__(self) -> "World":
        files = {"ops.py": self._folder_text.file(next(self._nonce))}
        self.p = self._stack.enter_context(testing.platform(files, at=AT, user="root"))
        self._know()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ------------------------------------------------------------ steps

    def step(self, name: str = "") -> None:
        """Do one thing, and judge what came of it."""
        name = name or self.rng.choice(STEPS)
        who = Principal(name=self.rng.choice(PEOPLE))
        self.log.append(f"{name} by {who.name}")
        try:
            getattr(self, f"_{name}")(who)
            self._count(name)
        except SextantError as error:
            self._count(f"{name}: {error.code}")
        self._judge()

    def _edit(self, _who: Principal) -> None:
        self._folder_text = self._edited(self._folder_text)
        (self.p.core.project.root / "ops.py").write_text(self._folder_text.file(next(self._nonce)))
        self._know()

    def _upload(self, who: Principal) -> None:
        """Upload another state of the file, mostly from what prod has, and run it somewhere."""
        text = self._edited(self.texts.get(self._live(), self._folder_text))
        env = self.rng.choice(("prod", "prod", "dev", *self._aside()))
        files = {
            "ops.py": text.file(next(self._nonce)).encode(),
            "sextant.toml": (self.p.core.project.root / "sextant.toml").read_bytes(),
        }
        by_digest = {hashlib.sha256(one).hexdigest(): one for one in files.values()}
        asked = Operations(self.p, who)
        done = asked.upload(
            dict(zip(files, by_digest, strict=True)),
            python=loading.python(),
            contents=by_digest,
            env=env,
        )
        self.texts[done.version] = text
        asked.run(version=done.version, env=env, stale=True)

    def _edited(self, text: Text) -> Text:
        rng = self.rng
        what = rng.choice(("code", "code", "ask", "denied", "ops", "sec", "back"))
        some = tuple(sorted(rng.sample(PEOPLE, rng.randint(1, 3))))
        if what == "code":
            text = text._replace(code=rng.randint(1, 1000))
        elif what == "ask":
            asks = rng.choice(
                ((), (("ops", 1),), (("sec", 1),), (("ops", 1), ("sec", 1)), (("ops", 2),))
            )
            text = text._replace(ask=asks)
        elif what == "denied":
            text = text._replace(denied=rng.choice(((), (rng.choice(PEOPLE),))))
        elif what == "back" and self.texts:
            text = rng.choice(list(self.texts.values()))
        elif what in ("ops", "sec"):
            text = text._replace(**{what: some})
        return text

    def _know(self) -> None:
        self.p.core.project.load()
        self.texts[self.p.core.project.folder_version()] = self._folder_text

    def _run(self, who: Principal) -> None:
        env = self.rng.choice(("dev", "prod", "prod", *self._aside()))
        Operations(self.p, who).run(env=env, stale=True, pinned=self.rng.random() < 0.3)

    def _glass(self, who: Principal) -> None:
        Operations(self.p, who).run(env="prod", stale=True, break_glass="it burns")

    def _schedule(self, _who: Principal) -> None:
        tick(self.p.runs, self.rng.choice(("dev", "prod")), Request(stale=True))

    def _approve(self, who: Principal) -> None:
        waiting = [one.id for one in self.p.runs.releases.open() if one.state == "waiting"]
        if waiting:
            Operations(self.p, who).approve(self.rng.choice(waiting), deny=self.rng.random() < 0.1)

    def _undo(self, who: Principal) -> None:
        Operations(self.p, who).rollback(self.rng.choice(("project", "orders")), env="prod")

    def _release(self, who: Principal) -> None:
        versions = Operations(self.p).versions("project").items
        chosen = self.rng.choice(versions)["version"]
        Operations(self.p, who).release("project", version=chosen, env="prod")

    def _aside(self) -> list[str]:
        return [name for name, parent, *_ in self.p.core.state.read("envs") if parent]

    def _environment(self, who: Principal) -> None:
        there = self._aside()
        if there and self.rng.random() < 0.3:
            Operations(self.p, who).drop_environment(self.rng.choice(there))
        elif len(there) < 3:
            name = f"pr-{next(self._nonce)}"
            Operations(self.p, who).create_environment(name, self.rng.choice(("dev", "prod")))

    def _promote(self, who: Principal) -> None:
        there = self._aside()
        if there:
            Operations(self.p, who).promote(self.rng.choice(there), env="prod", over=self._live())

    def _live(self) -> str:
        return self.p.core.versions.live_version("prod", "project:shop")

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # ------------------------------------------------------------ the oracle

    def _judge(self) -> None:
        """Look at all that was written since: each move of the project in prod must have been
        allowed by the text that was in force there when it was proposed."""
        for release in self._lived():
            for move in release.moves:
                if (move.env, move.asset) == ("prod", "project:shop"):
                    why = self._refused(release, move.source)
                    if why:
                        told = "\n".join(self.log[-12:])
                        raise Wrong(f"{release.id} of {release.by} is live: {why}\n{told}")
                    self._count("moved in prod")
        rows = self._rows()
        if rows and rows not in [(one.code,) for one in self.texts.values()]:
            raise Wrong(f"prod holds {rows}, which no version makes")

    def _rows(self) -> tuple[int, ...]:
        digest = self.p.core.versions.live_version("prod", "dataset:orders")
        if not digest:
            return ()
        version = self.p.core.versions.get("dataset:orders", digest)
        return tuple(self.p.views.frame(version)["n"].to_list())

    def _lived(self) -> Iterator[Release]:
        state = self.p.core.state
        state.flush()
        newest = self._seen
        found = []
        for entry in entries(state.read, "events_of_type", ("release.live",)):
            if entry.envelope.seq > self._seen:
                newest = max(newest, entry.envelope.seq)
                found.append(entry.read(Release))
        self._seen = newest
        yield from found

    def _refused(self, release: Release, source: str) -> str:
        """Return why the text in force forbids what is live; "" when it does not."""
        if release.intent == "undo" or release.broke_glass:
            return ""
        judge = self.texts[source] if source else self.texts[release.moves[0].target]
        proposer = release.by.removeprefix("person:")
        if proposer in judge.denied:
            return f"{proposer} may not"
        agreed = {one.removeprefix("person:") for one in release.approvals} - {proposer}
        for team, count in judge.ask:
            members = set(getattr(judge, team))
            if len(agreed & members) < count:
                return f"{count} of {team} ({sorted(members)}) must agree, {sorted(agreed)} did"
        return ""


STEPS = (
    "edit", "edit", "edit", "run", "run", "run", "schedule", "approve", "approve", "approve",
    "undo", "release", "glass", "environment", "promote", "upload", "upload",
)  # fmt: skip


def drive(seed: int, steps: int) -> dict[str, int]:
    """Do so many steps; return how often what happened. Wrong when the rules were passed."""
    with World(seed) as world:
        for _ in range(steps):
            world.step()
        return world.counts


__all__: list[Any] = ["STEPS", "World", "Wrong", "drive"]
