"""The project as a whole: what it is, how it stands, what would run."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sextant.app.operations.row import Progress, operation
from sextant.app.operations.session import Session
from sextant.engine.plan import Plan
from sextant.kernel.answers import (
    ColumnsSeen,
    EnvironmentSeen,
    GraphSeen,
    Picture,
    Project,
    ProjectMove,
    Search,
    Status,
    Uploaded,
    Why,
)
from sextant.kernel.errors import NotFound, UsageError
from sextant.kernel.limits import SEARCH_HITS, SEARCH_HITS_MAX


class ProjectOperations(Session):
    """The project as a whole: what it is, how it stands, what would run."""

    @operation("GET", "/project", "viewer", "read")
    def project(self) -> Project:
        """Return what the project is, and its mistake if its newest state cannot be loaded."""
        from sextant.app import environments

        core = self._core
        manifest = (
            core.project.load()
        )  # whoever asks first wants to know of an edit that is broken, or mended
        problem = core.project.problem
        return {
            "project": manifest.project,
            "tz": manifest.tz,
            "owner": manifest.owner,
            "environment": core.project.config.environment or manifest.environments[0],
            "environments": [str(e["name"]) for e in environments.seen(core)],
            "assets": len(manifest.assets),
            "teams": {t.name: list(t.members) for t in manifest.teams},
            "deputies": {t.name: dict(t.deputies) for t in manifest.teams if t.deputies},
            "problem": problem.message if problem else "",
            "problem_lines": problem.lines() if problem else [],
            "version": _version(),
        }

    @operation("GET", "/status", "viewer", "read")
    def status(self, *, assets: Sequence[str] = (), env: str = "") -> Status:
        """Return what is live, stale, held and waiting in an environment, and what needs a
        person; of the selected assets, or of all."""
        from sextant.app.status import status

        name = self._env(env)
        chosen = self._core.assets.select(assets, name)
        who = self._who()
        self._core.project.check_environment(name)
        return status(
            self._p.runs,
            self._see,
            name,
            self._standing_plan(name),
            chosen,
            here=not who.role,
            who=who,
        )

    def _standing_plan(self, env: str) -> Plan:
        """Return the plan by which assets stand, made once for all who look at a moment."""
        from sextant.app.status import standing_plan

        return self._p.memory.kept.get(
            self._moment("plan", env), lambda: standing_plan(self._p.runs, env)
        )

    @operation("GET", "/plan", "viewer", "read")
    def plan(
        self,
        *,
        assets: Sequence[str] = (),
        partition: str = "",
        stale: bool = False,
        only: bool = False,
        pinned: bool = False,
        version: str = "",
        env: str = "",
    ) -> Plan:
        """Return what would run, why, and what it will cost. Changes nothing.

        assets     what is selected: `orders`, `+orders`, `tag:daily` ...; none = all
        partition  one key, or a range `A..B`
        only       without what reads the selected assets
        pinned     by what is in force in the environment, also where the folder has something else
        version    of the project, that was uploaded, instead of what the folder has
        """
        name = self._env(env)
        request = self._request(
            assets,
            partition,
            env=name,
            pinned=pinned,
            version=version,
            stale=stale,
            downstream=not only,
        )
        project, releases = self._core.project, self._p.runs.project
        move = None if pinned else releases.brings(name, self._who(), self._see, version)
        manifest = project.manifest(name) if move is None else project.manifest_of(move.target)
        found = self._p.runs.plans.checked_plan(name, request, manifest)
        return msgspec.structs.replace(found, project=move)

    @operation("GET", "/graph", "viewer", "read")
    def graph(self, *, assets: Sequence[str] = (), to: str = "") -> GraphSeen:
        """Return assets and the edges between them: all, or those that are selected (`+orders`:
        what `orders` is made of; `orders+2`: what is made of it, at most two edges away); with
        `to` all that lies between them and that asset."""
        from sextant.app.graph import graph

        return graph(self._core, self._chosen(assets, to))

    @operation("GET", "/graph/picture", "viewer", "read")
    def graph_picture(
        self,
        *,
        assets: Sequence[str] = (),
        to: str = "",
        state: Sequence[str] = (),
        group: str = "owner",
        opened: Sequence[str] = (),
        env: str = "",
    ) -> Picture:
        """Return the graph as it is drawn: nodes with how they stand and where, from left to
        right. More than 300 are shown as clusters, by owner first, or by kind or prefix of the
        name, which can be opened.

        assets  what is selected, and `to`, as for `graph`
        state   only assets that stand so: failed, waiting, missing, held, stale, due, rolling,
                live, observed
        opened  ids of the clusters whose inside is shown
        """
        from sextant.app.graph_picture import picture
        from sextant.app.status import states

        core, name, see = self._core, self._env(env), self._see
        known = self._p.memory.kept.get(
            self._moment("states", name),
            lambda: states(self._p.runs, see, name, self._standing_plan(name)),
        )
        return picture(
            core,
            self._p.memory,
            self._chosen(assets, to),
            known,
            state=state,
            group=group,
            opened=opened,
        )

    @operation("GET", "/graph/columns", "viewer", "read")
    def graph_columns(
        self, asset: str, *, column: str = "", way: str = "both", far: int = 0, env: str = ""
    ) -> ColumnsSeen:
        """Return what a column of a dataset or of a KPI's values is made of, and what stands on it:
        the columns of all assets on the way, as queries say, and what decides which rows there are.

        asset   its id or name, or `orders.amount` with the column
        column  "" = every column of the asset
        way     up, down or both
        far     at most so many assets away; 0 = however far, of an asset as a whole one step
        """
        from sextant.app.columns import columns

        return columns(self._core, self._env(env), asset, column, way=way, far=far)

    def _chosen(self, assets: Sequence[str], to: str) -> tuple[str, ...]:
        """Return the assets that are selected, or all that lies between them and another one.
        NotFound where nothing leads from one to the other."""
        from sextant.kernel.graph import between

        core = self._core
        chosen = core.assets.select(assets)
        if not to:
            return chosen
        known, edges = core.assets.graph()
        found = between(edges, chosen or tuple(known), core.assets.select([to]))
        if not found:
            raise NotFound(
                "SX-PLAN-011",
                f"nothing leads from `{' '.join(assets)}` to `{to}`, nor back",
                hint="`sextant graph +ASSET` shows what an asset is made of",
            )
        return tuple(sorted(found))

    @operation("GET", "/search", "viewer", "read")
    def search(self, q: str, *, limit: int = SEARCH_HITS) -> Search:
        """Return what has these words in its id, name, owner, tags, columns or documentation, the
        best first: assets, checks, teams, policies, environments; and by the first letters of
        their ids runs, releases, incidents, signals and versions."""
        from sextant.app.search import search

        if not 1 <= limit <= SEARCH_HITS_MAX:
            raise UsageError(
                "SX-PAGE-003",
                f"limit must be between 1 and {SEARCH_HITS_MAX}, not {limit:,}",
                hint="more words find less",
            )
        return search(self._core, self._see, self._p.memory.names, q, limit)

    @operation("GET", "/why/{subject}", "viewer", "read")
    def why(self, subject: str, *, before: str = "", after: str = "", env: str = "") -> Why:
        """Return the reason in words, then what changed upstream of an asset, newest first, or the
        chain of events that caused a run, release, signal, incident or event. Of a business number
        also what moved it, and how sure that is.

        before, after  the parts of time between which it moved, as of `waterfall`
        """
        from sextant.app.proofs import what_moved
        from sextant.app.why import why

        name = self._env(env)
        return why(
            self._core,
            self._see,
            name,
            subject,
            lambda asset: self._p.memory.kept.get(
                self._moment("why", name, asset.id, before, after, self._see.sees_personal),
                lambda: what_moved(self._p.runs, self._see, name, asset, before, after),
            ),
        )

    @operation("GET", "/environments/{a}/diff/{b}", "viewer", "read")
    def environment_diff(self, a: str, b: str) -> dict[str, Any]:
        """Return what differs between two environments: code, versions, partitions, rows, KPIs."""
        from sextant.app.showing import env_diff

        return env_diff(self._core, self._see, a, b)

    @operation("GET", "/project/move", "viewer", "read")
    def project_move(self, *, version: str = "", env: str = "") -> ProjectMove | None:
        """Return what the project's folder, or a `version` that was uploaded, would bring to an
        environment: assets, what is weaker, what is blind, and who must agree. None where it brings
        nothing."""
        if not version:
            self._core.project.load_sound()
        return self._p.runs.project.brings(self._env(env), self._who(), self._see, version)

    @operation("POST", "/project/versions", "operator", "release", "plan")
    def upload(
        self,
        files: Mapping[str, str],
        python: str,
        *,
        contents: Mapping[str, bytes] | None = None,
        installed: Sequence[str] = (),
        commit: str = "",
        uncommitted: Sequence[str] = (),
        break_glass: str = "",
        env: str = "",
        progress: Progress | None = None,  # noqa: ARG002 - it may take as long as the project loads
    ) -> Uploaded:
        """Take a version of the project from a folder elsewhere, to be released to an environment.
        The answer names the contents that are missing; sent with the next request, until there are
        none. What is then recorded is in force nowhere: `run` with its `version` releases it.

        files        path -> SHA-256 of every file of the bundle
        python       the interpreter there, such as `cpython 3.11`: another one is refused
        contents     SHA-256 -> content (base 64 in JSON), at most 8 MiB together
        installed    what is installed there, as folders are called: `polars-2.1.0.dist-info`
        commit       of git, that the folder is at
        uncommitted  the first files that differ from it
        break_glass  the reason, where a rule denies the release that this is for
        """
        from sextant.project.bundle import digest_of
        from sextant.project.uploads import Offer

        offer = Offer(files, python, frozenset(installed), commit, tuple(uncommitted))
        releases, who, name = self._p.runs.project, self._who(), self._env(env)
        uploads = releases.uploads
        releases.check_upload(name, by=who, break_glass=break_glass)
        uploads.check(offer)
        releases.check_bundle(name, digest_of(files))
        uploads.stand_by()
        self._p.runs.executors.stand_by()
        uploads.hold(contents or {}, who)
        if missing := uploads.missing(offer, who):
            return Uploaded(missing=tuple(missing))
        version = uploads.take(offer, who)
        return Uploaded(version=version, notes=tuple(uploads.notes(offer, version)))

    @operation("GET", "/environments", "viewer", "read")
    def environments(self) -> list[EnvironmentSeen]:
        """Return environments and what they fall through to."""
        from sextant.app import environments

        self._core.project.manifest()
        return environments.seen(self._core)

    @operation("POST", "/environments", "operator", "env", "env")
    def create_environment(
        self, name: str, parent: str, *, frozen: bool = False, keep: str = ""
    ) -> dict[str, Any]:
        """Create an environment that sees everything of `parent` until it has versions of its own.
        Copies nothing.

        frozen  it shows what `parent` shows now, for good: nothing moves in it
        keep    how long until it goes by itself, as `3d`; "" = it stays
        """
        from sextant.app import environments

        environments.create(self._core, name, parent, by=self._who(), frozen=frozen, for_=keep)
        return {"name": name, "parent": parent, "frozen": frozen, "keep": keep}

    @operation("DELETE", "/environments/{name}", "operator", "env", "env")
    def drop_environment(self, name: str) -> dict[str, Any]:
        """Drop an environment; its versions lose their pointer and expire with the others."""
        from sextant.app import environments

        environments.drop(self._core, self._p.runs, name, by=self._who())
        return {"name": name, "dropped": True}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sextant-ops")
    except PackageNotFoundError:
        return "source"
