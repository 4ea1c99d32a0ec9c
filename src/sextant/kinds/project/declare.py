"""`sx.project`: the project's name, zone, owner and environments."""

import re
from collections.abc import Sequence
from typing import Never
from zoneinfo import ZoneInfo

from sextant.kinds.project.spec import KIND
from sextant.project import forms
from sextant.project.collect import (
    ProjectInfo,
    caller,
    current,
    fitting_text,
    near,
    refuse_unknown,
    report,
)
from sextant.project.declared import Declared
from sextant.project.forms import Owner


class DeclaredProject(Declared):
    """The project as its author named it."""

    of_kind = KIND

    def __init__(self, info: ProjectInfo) -> None:
        self.name, self.owner, self.place = info.name, info.owner, info.place


def project(
    name: str,
    *,
    tz: str = "UTC",
    owner: Owner = "",
    environments: Sequence[str] = ("dev", "prod"),
    follows: Sequence[str] | None = None,
    year_starts: int = 1,
    **unknown: Never,
) -> None:
    """Name the project. Called once.

    follows      those of its environments that have what the project's folder has, at once; `dev`
                 when left out. The others have the version that was released to them
    tz           the zone whose days and hours its partitions, schedules and business numbers mean
    year_starts  the month, 1 to 12, with which its financial year begins: quarters and years of
                 business numbers
    """
    refuse_unknown("project", unknown, project.__kwdefaults__)
    name = forms.name("project", name)
    tz = fitting_text("tz", tz, "UTC")
    environments = forms.names("environments", environments)
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        from zoneinfo import available_timezones

        report("SX-PROJ-013", f"`{tz}` is not a time zone", hint=near(tz, available_timezones()))
        tz = "UTC"
    for environment in environments:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,127}", environment):
            report(
                "SX-PROJ-003",
                f"`{environment}` is not a name for an environment",
                hint="lower-case letters, digits, _ and -, starting with a letter",
            )
    if not environments:
        report(
            "SX-PROJ-003",
            "the project has no environment",
            hint='leave `environments` out for `["dev", "prod"]`',
        )
    if follows is None:
        follows = [name for name in environments if name == "dev"]
    follows = forms.names("follows", follows)
    for unknown_name in sorted(set(follows) - set(environments)):
        report(
            "SX-PROJ-003",
            f"`follows` names `{unknown_name}`, which is no environment of the project",
            hint=near(unknown_name, environments),
        )
    if year_starts not in range(1, 13) or isinstance(year_starts, bool):
        report(
            "SX-PROJ-013",
            f"`year_starts` is {year_starts!r}",
            hint="the number of a month: 4 for a year that begins in April",
        )
        year_starts = 1
    info = ProjectInfo(
        name,
        tz,
        forms.owner(owner),
        tuple(environments),
        follows,
        year_starts,
        caller(),
    )
    collector = current()
    if collector is None:
        return
    if collector.project is not None:
        report(
            "SX-PROJ-004",
            "`project` is called twice",
            hint=f"first at {collector.where(collector.project.place)}; one project has one name",
        )
    else:
        collector.declared.append(DeclaredProject(info))
    collector.project = info
