"""What SQL shows as `data` and `kpi`: read from the state store by the coordinator, told to the
telemetry process."""

from typing import TYPE_CHECKING

import msgspec

from sextant.engine.bodies import blob_of
from sextant.kernel.errors import SextantError
from sextant.kernel.limits import VERSIONS_SHOWN_MAX
from sextant.kernel.nouns import kind_of
from sextant.kinds.kpi.spec import KIND as KPI
from sextant.kinds.kpi.spec import Measure
from sextant.server.sql.catalogue import LiveKpi, LiveTable, live_kpi

if TYPE_CHECKING:
    from sextant.app.platform import LocalPlatform


def live_tables(
    platform: "LocalPlatform",
    *,
    kpis_wanted: bool = True,
    versions_wanted: bool = True,
    confirmed: set[str] | None = None,
) -> tuple[str, list[LiveTable], list[LiveKpi], list[str]]:
    """Return the environment that plain names mean, the versions of datasets that can be read (live
    ones of every environment first), the KPIs that are live, and the assets whose errors, logs and
    results of checks only administrators see.

    What has files that are not what was written is named as damaged, and cannot be read.

    kpis_wanted      False where nobody asks for a KPI: turning one into SQL takes a third of a
                     second
    versions_wanted  False where nobody asks for a version that is not live
    confirmed        states of such versions whose files need not be compared again; it grows
    """
    p = platform
    personal = p.runs.personal()
    kept: dict[str, list[tuple[str, str]]] = {}
    for id_, digest, locator, _ in p.core.state.read("versions_kept"):
        if locator and not blob_of(locator):
            kept.setdefault(id_, []).append((digest, locator))
    tables: list[LiveTable] = []
    kpis: list[LiveKpi] = []

    confirmed = set() if confirmed is None else confirmed
    seen: set[str] = set()  # data files that were compared now

    def damage(id_: str, digest: str, locator: str) -> str:
        try:
            p.core.lake.confirm(locator, of=f"{id_}@{digest[:12]}", seen=seen)
        except SextantError as error:
            return error.message
        return ""

    def table(env: str, id_: str, digest: str, locator: str, *, live: bool) -> None:
        tables.append(
            LiveTable(
                env=env,
                asset=id_,
                name=id_.partition(":")[2],
                version=digest,
                locator=locator,
                live=live,
                damaged=damage(id_, digest, locator) if live or locator not in confirmed else "",
                personal=personal.of_digest(id_, digest),
            )
        )

    shown: set[tuple[str, str]] = set()
    for env, *_ in p.core.state.read("envs"):
        for id_, pointer in p.core.versions.live(env).items():
            version = p.core.versions.get(id_, pointer.version)
            if version.locator and not blob_of(version.locator):
                table(env, id_, pointer.version, version.locator, live=True)
                shown.add((id_, pointer.version))
            elif kpis_wanted and kind_of(id_) == KPI:
                try:
                    kpis.append(
                        live_kpi(
                            env,
                            id_.partition(":")[2],
                            msgspec.json.decode(version.spec, type=Measure),
                        )
                    )
                except (
                    SextantError
                ):  # a definition of an older Sextant that is not understood: the rest is shown
                    continue
    for id_, versions in kept.items() if versions_wanted else ():
        for digest, locator in versions[-VERSIONS_SHOWN_MAX:]:
            if (id_, digest) not in shown:
                table("", id_, digest, locator, live=False)
    confirmed |= {one.locator for one in tables if not one.damaged}
    known = {env for env, *_ in p.core.state.read("envs")}
    served = p.core.project.config.environment or (
        p.core.project.manifest().environments[0] if known else ""
    )
    return served, tables, kpis, sorted(personal.guarded)
