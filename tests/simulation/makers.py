"""Random trees of who made what: accounts, tokens that make tokens, agents, revocations, time that
passes - judged by a model in plain Python that walks each line of makers to its end.

Nobody gains a right, an approval or a moment of life. `bench/access.py` does many trees,
`test_makers.py` some.
"""

from sextant.kernel.nouns import SYSTEM
import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Self

from sextant.app import access as accounts
from sextant.project.config import read_config
from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.kernel.clock import NS, ManualClock
from sextant.kernel.errors import Denied, SextantError, UserError
from sextant.kernel.nouns import SCOPES, Asset, Move, Need, Principal, Rule, Strategy
from sextant.authorization.decide import DEFAULT, VERBS, Decision, decide
from sextant.stores.accounts.records import Account, Session

DAY = 86400 * NS
_START = 1_750_000_000 * NS
ROLES = ("viewer", "operator", "admin")
TEAMS = {"ops": ("ann", "bob"), "web": ("eve",), "data": ()}
PEOPLE = ("ann", "bob", "eve", "zed")
ASSETS = (
    None,
    Asset(kind="dataset", name="orders", owner="ops"),
    Asset(kind="dataset", name="free"),
    Asset(kind="kpi", name="revenue", owner="web", tier=1),
    Asset(kind="service", name="pay", owner="web", mode="observed"),
)
# conditions that say no more to a child than to its maker: what a tree of tokens must not get round
DENIES = (
    "principal.root == 'ann'",
    "principal.root != 'bob' && env == 'prod'",
    "principal.role != 'admin' && verb == 'push'",
    "!('ops' in principal.teams) && env == 'prod'",
    "'person:eve' in principal.makers || principal.name == 'eve'",
    "asset.tier == 1 && !(asset.owner in principal.teams)",
)
NEEDS_ONE = Decision(verdict="approval", needs=(Need(count=1),))
NEEDS_TWO = Decision(verdict="approval", needs=(Need(count=2),))


class Difference(AssertionError):
    """Somebody has what his makers had not."""


class Made:
    """A token or an account as the model knows it. `maker` None = the project's folder."""

    def __init__(self, name: str, kind: str, role: str, root: str, maker: "Made | None") -> None:
        self.name, self.kind, self.role, self.root, self.maker = name, kind, role, root, maker
        self.scopes: tuple[str, ...] = SCOPES
        self.teams: tuple[str, ...] = ()
        self.ends = 0  # 0 = never
        self.ended = False  # revoked, or its account is disabled
        self.id = self.secret = ""
        self.cookie = ""

    def line(self) -> "list[Made]":
        return [self, *(self.maker.line() if self.maker else [])]

    def alive(self, now: int, disabled: set[str]) -> bool:
        return all(
            not one.ended and not (one.ends and one.ends <= now) and one.root not in disabled
            for one in self.line()
        )

    def least_role(self) -> str:
        return min((one.role for one in self.line()), key=ROLES.index)

    def member_of(self) -> set[str]:
        """The teams of which it is by its own word and, of a person, the project's: no more than
        its maker, who is no administrator, has."""
        mine = set(self.teams)
        if self.kind == "person":
            listed = {team for team, members in TEAMS.items() if self.name in members}
            if listed:
                mine = listed & mine if mine else listed
            else:
                mine = {team for team in mine if not TEAMS[team]}
        if self.maker and self.maker.least_role() != "admin":
            mine &= self.maker.member_of()
        return mine

    def end(self) -> int:
        return min((one.ends for one in self.line() if one.ends), default=0)


class Tried(NamedTuple):
    """What somebody asked for."""

    name: str
    kind: str
    role: str
    scopes: tuple[str, ...]
    teams: tuple[str, ...]
    on_behalf_of: str
    days: int


class Makers:
    """One platform, and a new tree of makers for each example."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._folder = tempfile.TemporaryDirectory()
        root = Path(self._folder.name)
        (root / "sextant.toml").write_text('module = "ops"\nenvironment = "dev"\n')
        members = {name: repr(list(people)) for name, people in TEAMS.items()}
        teams = "\n".join(f"{t} = sx.team({t!r}, members={members[t]})" for t in TEAMS)
        (root / "ops.py").write_text(
            f"import sextant as sx\n{teams}\n"
            'sx.project("shop", tz="UTC", environments=["dev", "prod"], follows=["dev", "prod"], owner=ops)\n'
        )
        self._clock = ManualClock(_START)
        self.p = LocalPlatform(
            read_config(root),
            clock=self._clock,
            executor="inline",
            home=root / "home",
            principal=Principal(name="root"),
        )

    def close(self) -> None:
        self.p.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ one tree

    def example(self, seed: str) -> None:
        """Grow a tree, judge it all along. Difference names the seed."""
        rng = random.Random(seed)
        self._clock.set(_START)  # the years of ten thousand examples are more than 64 bits of ns
        self.p.access.close()
        self.p.access.store.path.unlink()
        self.p.__dict__["access"] = accounts.Access(self.p.core)
        self._made: list[Made] = []
        self._disabled: set[str] = set()
        self._rules = (*DEFAULT, *_denies(rng))
        try:
            for name in rng.sample(PEOPLE, rng.randint(1, 3)):
                self._account(rng, name)
            for _ in range(rng.randint(3, 14)):
                self._step(rng)
                self._judge()
            self._rights(rng)
            self._approvals(rng)
        except Difference as error:
            raise Difference(f"seed `{seed}`: {error}") from error
        self.counts["examples"] += 1
        self.counts["tokens"] += len(self._made)

    def _now(self) -> int:
        return self._clock.now_ns()

    def _account(self, rng: random.Random, name: str) -> None:
        role, teams = rng.choice(ROLES), tuple(rng.sample(sorted(TEAMS), rng.randint(0, 2)))
        store = self.p.access.store
        store.add_account(
            Account(name=name, role=role, teams=teams, password="-", created_at=self._now())
        )
        cookie = f"cookie-of-{name}"
        session = Session(
            hash=accounts._hash(cookie),
            id=f"session-of-{name}",
            person=name,
            how="password",
            csrf="-",
            created_at=self._now(),
            expires_at=1 << 62,
        )
        store.add_session(session, self._now())
        made = Made(name, "person", role, name, None)
        made.teams, made.cookie = teams, cookie
        self._made.append(made)

    def _grant(self, one: Made) -> accounts.Grant | None:
        access = self.p.access
        return access.session(one.cookie) if one.cookie else access.grant(one.secret)

    def _step(self, rng: random.Random) -> None:
        happens = rng.random()
        tokens = [one for one in self._made if one.id]
        if happens < 0.70 or not tokens:
            self._make(rng)
        elif happens < 0.80:
            one = rng.choice(tokens)
            if not one.ended:
                self.p.access.revoke_token(one.id, by=SYSTEM)
                one.ended = True
                self.counts["revoked"] += 1
        elif happens < 0.86:
            name = rng.choice(PEOPLE)
            with contextlib.suppress(SextantError):
                self.p.access.disable_account(name, by=SYSTEM)
                self._disabled.add(name)
                self.counts["disabled"] += 1
        elif happens < 0.92:
            self._hand(rng, rng.choice(tokens))
        else:
            self._clock.set(self._now() + rng.randint(1, 60) * DAY)
            self.counts["days passed"] += 1

    def _make(self, rng: random.Random) -> None:
        """Somebody asks for a token: often for more than he has."""
        maker = rng.choice([None, *self._made * 3])
        kind = rng.choice(("token", "token", "person", "agent", "agent"))
        tried = Tried(
            name=rng.choice(PEOPLE) if kind == "person" else f"t{len(self._made)}",
            kind=kind,
            role=rng.choice(ROLES),
            scopes=tuple(rng.sample(SCOPES, rng.randint(0, 3))),
            teams=tuple(rng.sample(sorted(TEAMS), rng.randint(0, 2))),
            on_behalf_of=rng.choice(("", "", *PEOPLE, *TEAMS)) if kind == "agent" else "",
            days=rng.randint(1, 400),
        )
        grant = self._grant(maker) if maker else None
        if maker and grant is None:
            return
        by = grant.principal if grant else None
        try:
            made = Operations(self.p, by).create_token(**tried._asdict())
        except UserError:
            self.counts["refused"] += 1
            return
        one = Made(tried.name, kind, tried.role, _root(tried, maker), maker)
        one.id, one.secret, one.teams = made["id"], made["secret"], tried.teams
        one.scopes = tried.scopes or SCOPES
        one.ends = self._now() + tried.days * DAY
        if maker and maker.end():  # no more than he had, also when another has answered since
            one.ends = min(one.ends, maker.end())
        self._made.append(one)
        self.counts["made by a token or account" if maker else "made on the folder"] += 1
        if maker:
            self._allowed(tried, maker)

    def _allowed(self, tried: Tried, maker: Made) -> None:
        """Hold what was given against what its maker could give."""
        if maker.kind == "agent" and tried.kind != "agent":
            raise Difference(f"the agent {maker.name} made the {tried.kind} {tried.name}")
        if ROLES.index(tried.role) > ROLES.index(maker.least_role()):
            raise Difference(f"{maker.name} gave the role {tried.role}")
        if maker.least_role() != "admin":
            if not set(tried.teams) <= maker.member_of():
                raise Difference(f"{maker.name} gave the teams {tried.teams}")
            if tried.kind == "person" and (maker.kind != "person" or maker.name != tried.name):
                raise Difference(f"{maker.name} made a token for the person {tried.name}")

    def _hand(self, rng: random.Random, one: Made) -> None:
        """An administrator lets another person answer for a token."""
        person = rng.choice(PEOPLE)
        try:
            Operations(self.p).hand_token(one.id, person)
        except UserError:
            return
        self.counts["handed"] += 1
        account = next((two for two in self._made if two.cookie and two.name == person), None)
        under = [two for two in self._made if one in two.line()]
        for two in under:
            two.root = person
        one.maker = account

    # ------------------------------------------------------------ judging

    def _judge(self) -> None:
        for one in self._made:
            grant, is_alive = self._grant(one), one.alive(self._now(), self._disabled)
            if (grant is not None) != is_alive:
                raise Difference(f"{one.kind} {one.name} opens {grant}, and alive is {is_alive}")
            if grant is None:
                self.counts["dead looked at"] += 1
                continue
            self._judge_grant(one, grant)

    def _judge_grant(self, one: Made, grant: accounts.Grant) -> None:
        by = self.p.core.authorization.who(grant.principal)
        line = one.line()
        if by.person != one.root:
            raise Difference(f"{by} is answered for by {by.person}, not {one.root}")
        if grant.role != one.least_role():
            raise Difference(f"{by} has the role {grant.role}")
        if any(scope not in two.scopes for two in line for scope in grant.scopes):
            raise Difference(f"{by} has the scopes {grant.scopes}")
        if set(by.teams) != one.member_of():
            raise Difference(f"{by} has the teams {by.teams}, not {one.member_of()}")
        if not one.cookie and grant.expires_at != one.end():
            raise Difference(f"{by} ends {grant.expires_at}, not {one.end()}")

    def _rights(self, rng: random.Random) -> None:
        """Hold what the rules say to each against what they say to its maker, about some verbs."""
        verbs = rng.sample(VERBS, 4)
        for one in self._made:
            grant = self._grant(one)
            above = self._grant(one.maker) if one.maker else None
            if grant is not None and above is not None:
                self._compare(
                    self.p.core.authorization.who(grant.principal),
                    self.p.core.authorization.who(above.principal),
                    verbs,
                )

    def _compare(self, child: Principal, maker: Principal, verbs: list[str]) -> None:
        """Whatever the rules let a child do, they let its maker do too."""
        if child.kind == "person" and maker.name != child.name:
            return  # an administrator says who somebody is; the project says what that one may do
        if maker.is_administrator and not set(child.teams) <= set(maker.teams):
            return  # he says of whom a team consists, too
        for verb in verbs:
            for asset in ASSETS:
                for env in ("dev", "prod"):
                    one, other = (
                        decide(self._rules, who, verb, asset, env).verdict for who in (child, maker)
                    )
                    if one == "allow" and other != "allow":
                        raise Difference(
                            f"{child} may {verb} {asset and asset.id} in {env}, {maker} may not"
                        )
                    self.counts["rights compared"] += 1

    def _approvals(self, rng: random.Random) -> None:
        """Nobody is a second pair of eyes for what he answers for, nor two of them."""
        alive = [(one, grant.principal) for one in self._made if (grant := self._grant(one))]
        if not alive:
            return
        for need in (NEEDS_ONE, NEEDS_TWO):
            proposer, by = rng.choice(alive)
            releases = self.p.runs.releases
            move = Move(env="prod", asset="kpi:revenue", source="", target=f"v{rng.random()}")
            draft = releases.draft([move], by=by, decision=need, strategy=Strategy(kind="publish"))
            waiting = releases.propose(draft)
            approved: set[str] = set()
            for one, eyes in rng.sample(alive, len(alive)):
                try:
                    after = Operations(self.p, eyes).approve(waiting.id)
                except (Denied, UserError):
                    continue
                if one.root == proposer.root or one.root in approved or one.kind != "person":
                    raise Difference(f"{eyes} approved what {by} proposed")
                approved.add(one.root)
                self.counts["approvals"] += 1
                if after.state != "waiting":
                    break
            if releases.get(waiting.id).state == "waiting":
                releases.abort(waiting.id, SYSTEM, "the example ends")


def _root(tried: Tried, maker: Made | None) -> str:
    """Who answers for a new token: whoever answers for its maker. On the folder, the person that it
    is for."""
    if maker is not None:
        return maker.root
    if tried.kind == "person":
        return tried.name
    return tried.on_behalf_of if tried.on_behalf_of in PEOPLE else "root"


def _denies(rng: random.Random) -> list[Rule]:
    chosen = rng.sample(DENIES, rng.randint(0, 3))
    return [Rule(name=text, when=text, then="deny") for text in chosen]
