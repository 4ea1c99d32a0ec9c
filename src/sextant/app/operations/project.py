"""The project as a whole: what it is, how it stands, what would run."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sextant.app.operations.row import operation
from sextant.app.operations.session import Session
from sextant.engine.plan import Plan
from sextant.kernel.answers import EnvironmentSeen, GraphSeen, Project, ProjectMove, Status, Why


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
        return status(self._p.runs, self._see, name, chosen, here=not self._who().role)

    @operation("GET", "/plan", "viewer", "read")
    def plan(
        self,
        *,
        assets: Sequence[str] = (),
        partition: str = "",
        stale: bool = False,
        only: bool = False,
        pinned: bool = False,
        env: str = "",
    ) -> Plan:
        """Return what would run, why, and what it will cost. Changes nothing.

        assets     what is selected: `orders`, `+orders`, `tag:daily` ...; none = all
        partition  one key, or a range `A..B`
        only       without what reads the selected assets
        pinned     by what is in force in the environment, also where the folder has something else
        """
        name = self._env(env)
        request = self._request(
            assets, partition, env=name, pinned=pinned, stale=stale, downstream=not only
        )
        project = self._core.project
        move = None if pinned else self._p.runs.project.brings(name, self._who(), self._see)
        manifest = project.manifest(name) if move is None else project.manifest()
        found = self._p.runs.plans.checked_plan(name, request, manifest)
        return msgspec.structs.replace(found, project=move)

    @operation("GET", "/graph", "viewer", "read")
    def graph(self, *, assets: Sequence[str] = ()) -> GraphSeen:
        """Return assets and the edges between them: all, or those that are selected (`+orders`:
        what `orders` is made of; `orders+`: what is made of it)."""
        from sextant.app.graph import graph

        return graph(self._core, self._core.assets.select(assets))

    @operation("GET", "/why/{subject}", "viewer", "read")
    def why(self, subject: str, *, env: str = "") -> Why:
        """Return the reason in words, then what changed upstream of an asset, newest first, or the
        chain of events that caused a run, release, signal, incident or event."""
        from sextant.app.why import why

        return why(self._core, self._see, self._env(env), subject)

    @operation("GET", "/environments/{a}/diff/{b}", "viewer", "read")
    def environment_diff(self, a: str, b: str) -> dict[str, Any]:
        """Return what differs between two environments: code, versions, partitions, rows, KPIs."""
        from sextant.app.showing import env_diff

        return env_diff(self._core, self._see, a, b)

    @operation("GET", "/project/move", "viewer", "read")
    def project_move(self, *, env: str = "") -> ProjectMove | None:
        """Return what the project's folder would bring to an environment: assets, what is weaker,
        what is blind, and who must agree. None where it brings nothing."""
        self._core.project.load_sound()
        return self._p.runs.project.brings(self._env(env), self._who(), self._see)

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
