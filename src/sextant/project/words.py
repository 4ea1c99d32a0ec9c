"""The words of the author's file that belong to no kind: people, policies, secrets, when something
runs and how it is sliced.

Each returns a typed object and registers it in the open collector, if there is one. Mistakes of
form are reported at the author's line; what depends on other assets is checked when the project is
assembled.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Literal, Never

from sextant.kernel.errors import UsageError
from sextant.kernel.nouns import Rule, Team, Trigger
from sextant.kernel.partitions import Partitioning
from sextant.project import forms
from sextant.project.collect import (
    caller,
    current,
    fitting,
    fitting_text,
    refuse_unknown,
    report,
)
from sextant.project.declared import Secret
from sextant.project.forms import Owner

# ---------------------------------------------------------------- people, rules, secrets


def team(
    name: str,
    *,
    members: Sequence[str] = (),
    deputies: Mapping[str, str | date] | None = None,
    **unknown: Never,
) -> Team:
    """Declare a team that owns assets.

    members   the names of its people, who may approve for it
    deputies  people who stand in for them, each with the last day, of the project's zone, on which
              they do: `{"dan": "2026-12-24"}`
    """
    refuse_unknown("team", unknown, team.__kwdefaults__)
    name = forms.name("team", name)
    given = forms.mapping("deputies", deputies or {}, 'a mapping: `{"dan": "2026-12-24"}`')
    until = {person: _day(person, day) for person, day in given.items()}
    made = Team(
        name=name,
        members=forms.names("members", members),
        deputies={person: day for person, day in until.items() if day},
    )
    for person in sorted(set(made.members) & made.deputies.keys()):
        report(
            "SX-PROJ-101",
            f"`{person}` is a member of team `{name}`, and a deputy",
            hint="leave one out",
        )
    collector = current()
    if collector is not None:
        place = caller()
        for other, where in collector.teams:
            if other.name == name:
                report(
                    "SX-PROJ-005",
                    f"two teams are called `{name}`",
                    hint=f"the other stands at {collector.where(where)}",
                )
        collector.teams.append((made, place))
    return made


def _day(person: str, day: object) -> str:
    """Return a day as text; "" for what is none, which is reported."""
    try:
        return date.fromisoformat(day if isinstance(day, str) else f"{day}").isoformat()
    except ValueError:
        report(
            "SX-PROJ-102",
            f"`{day}` is no day on which `{person}` ceases to be a deputy",
            hint='write "2026-12-24"',
        )
        return ""


def secret(name: str) -> Secret:
    """Refer to a secret by name. As the default of a parameter it binds the value, which exists in
    the worker only."""
    name = fitting_text("secret", name)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
        report(
            "SX-PROJ-003",
            f"`{name}` is not a name for a secret",
            hint="letters, digits and _, as environment variables have",
        )
    collector = current()
    if collector is not None:
        collector.secrets.add(name)
    return Secret(f"secret:{name}")


def policy(
    name: str,
    *,
    when: str,
    then: "Literal['allow', 'deny'] | Approval",
    absolute: bool = False,
    **unknown: Never,
) -> Rule:
    """Declare a rule over verbs and assets.

    when      a CEL condition
    then      allow, deny, or `approval(1, of=team)`; where several rules ask for approvals, all of
              them must be given
    absolute  of a deny: a broken glass does not pass it
    """
    refuse_unknown("policy", unknown, ["when", "then", "absolute"])
    place = caller()
    name, when = fitting_text("policy", name), fitting_text("when", when, "true")
    if absolute and then != "deny":
        report(
            "SX-PROJ-015",
            f"policy `{name}` is absolute and does not deny",
            hint='absolute=True goes with then="deny"',
        )
    if isinstance(then, Approval):
        rule = Rule(
            name=name,
            when=when,
            then="approval",
            approvals=then.count,
            of=then.of,
            file=place.file,
            line=place.line,
        )
    else:
        if then not in ("allow", "deny"):
            report(
                "SX-PROJ-015",
                f"`{then}` is not what a policy can say",
                hint='"allow", "deny" or `approval(1, of=team)`',
            )
            then = "deny"
        rule = Rule(
            name=name, when=when, then=then, absolute=absolute, file=place.file, line=place.line
        )
    collector = current()
    if collector is not None:
        for other, where in collector.rules:
            if other.name == name:
                report(
                    "SX-PROJ-005",
                    f"two policies are called `{name}`",
                    hint=f"the other stands at {collector.where(where)}",
                )
        collector.rules.append((rule, place))
    return rule


class Approval:
    """What `approval` returns: how many people of which team must agree."""

    def __init__(self, count: int, of: str) -> None:
        self.count = count
        self.of = of


def approval(count: int = 1, *, of: Owner) -> Approval:
    """Ask for `count` people of team `of` before it happens."""
    count = fitting("approval", count, int, "how many people", 1)
    if count < 1:
        report("SX-PROJ-015", f"an approval by {count} people is none", hint="at least 1")
    return Approval(count, forms.owner(of, "of"))


# ---------------------------------------------------------------- when and where


def hourly(*, start: str | datetime, end: str | datetime | None = None) -> Partitioning:
    """Slice by the hour from `start` (the first) to before `end`, in the project's zone."""
    return _time("hourly", start, end)


def daily(*, start: str | date, end: str | date | None = None) -> Partitioning:
    """Slice by the day of the project's zone, from `start` (the first day) to before `end`."""
    return _time("daily", start, end)


def monthly(*, start: str | date, end: str | date | None = None) -> Partitioning:
    """Slice by the month of the project's zone, from `start` (`2013-01`) to before `end`."""
    return _time("monthly", start, end)


def static(*names: str) -> Partitioning:
    """Slice by a fixed list of names."""
    names = forms.names("static", names)
    if not names or len(set(names)) != len(names):
        report(
            "SX-PROJ-016",
            "`static` needs at least one name and no name twice",
            hint='write `static("EWR", "JFK", "LGA")`',
        )
    return Partitioning(grain="static", names=tuple(dict.fromkeys(names)))


def inputs(*, cooldown: str = "", **unknown: Never) -> Trigger:
    """Run when an input has a new version.

    cooldown  the least time between the end of a run and the next one: `6h`
    """
    refuse_unknown("inputs", unknown, inputs.__kwdefaults__)
    return Trigger(kind="inputs", cooldown_s=forms.length("cooldown", cooldown))


def cron(text: str) -> Trigger:
    """Run on a schedule of five fields (minute hour day month weekday), in the project's zone."""
    from cronsim import CronSim, CronSimError

    text = fitting_text("cron", text, "0 0 * * *")
    try:
        CronSim(text, datetime(2013, 1, 1))  # noqa: DTZ001 - only the form is looked at
        wrong = "" if len(text.split()) == 5 else "it has not five fields"
    except CronSimError as error:
        wrong = str(error)
    if wrong:
        report(
            "SX-PROJ-017",
            f"`{text}` is not a schedule: {wrong}",
            hint="minute hour day month weekday, as in `0 5 * * *` for five o'clock each day",
        )
    return Trigger(kind="cron", cron=text)


def _time(
    grain: Literal["hourly", "daily", "monthly"], start: str | date, end: str | date | None
) -> Partitioning:
    made = Partitioning(grain=grain, start=str(start), end="" if end is None else str(end))
    try:
        made.check()
    except UsageError as error:
        report("SX-PROJ-016", error.message, hint=error.hint)
    return made
