"""Incidents as people work on them: every change is in the ledger, and the tables follow from it."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from served import serve
from shop_project import Shop

from sextant.app.operations import Operations
from sextant.app.platform import LocalPlatform
from sextant.app.remote import connect
from sextant.kernel.hidden import HIDDEN
from sextant.kernel.errors import Conflict, Denied, NotFound, SextantError, UsageError
from sextant.kernel.nouns import Principal
from sextant.kernel.ports import Write
from sextant.ledger.log import entries
from sextant.ledger.projections import PROJECTED, Closed
from sextant.ledger.rebuild import rebuild
from sextant.ledger.signals import find_incident
from sextant.server.sql.withheld import selects

OPS = """
web = sx.team("web", members=["eve"])

@sx.dataset(owner=ops)
def orders() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})

@sx.dataset(owner=web)
def visits() -> pl.DataFrame:
    return pl.DataFrame({"id": [1]})
"""


class Night:
    """A project with signals, and incidents of them."""

    def __init__(self, p: LocalPlatform) -> None:
        self.p, self.core = p, p.core
        self.ann = Operations(p)

    def signal(
        self, asset: str = "dataset:orders", kind: str = "fire", by: Any = "system:test"
    ) -> str:
        event = self.core.events.signal(
            asset, kind, "error", f"{kind} at {asset}", evidence={"env": "prod"}, by=by
        )
        self.core.state.commit(Write((), (event,)))
        return event.subject

    def incident(self, *signals: str, assets: tuple[str, ...] = ("dataset:orders",)) -> str:
        signals = signals or (self.signal(),)
        cause = entries(self.core.state.read, "events_of_both", (signals[0], "signal.raised", 1))
        event = self.core.events.incident("it burns", assets, signals, cause=cause[0].envelope.id)
        self.core.state.commit(Write((), (event,)))
        return event.subject

    def changes(self, id_: str) -> list[str]:
        return [one["change"] for one in self.ann.incident_facts(id_)["timeline"]]

    def open_signals(self) -> set[str]:
        return {one["id"] for one in self.ann.signals(open_only=True, limit=1000).items}

    def tables(self) -> dict[str, list[Any]]:
        return {
            name: [row for page in self.core.state.rows(name) for row in page] for name in PROJECTED
        }


@pytest.fixture
def night(shop: Shop) -> Iterator[Night]:
    shop.write(OPS)
    with shop.open() as p:
        Operations(p).plan()
        p.core.project.record()
        yield Night(p)


# ---------------------------------------------------------------- the mechanism


class Model:
    """What the incidents should say after random changes, kept beside them."""

    def __init__(self, night: Night, rng: random.Random) -> None:
        self.night, self.rng = night, rng
        self.known: dict[str, dict[str, Any]] = {}
        self.texts: dict[str, list[str]] = {}

    def open(self) -> None:
        signals = tuple(
            self.night.signal(self.rng.choice(("dataset:orders", "dataset:visits")))
            for _ in range(self.rng.randint(1, 3))
        )
        id_ = self.night.incident(*signals)
        self._add(id_, ["dataset:orders"], list(signals))

    def _add(self, id_: str, assets: list[str], signals: list[str], origin: str = "") -> None:
        self.known[id_] = {
            "state": "open",
            "assets": assets,
            "signals": signals,
            "assignee": "",
            "comments": 0,
            "merged_into": "",
            "split_from": origin,
        }
        self.texts[id_] = []

    def step(self) -> None:
        """Do something at random, possible or not, and note what it should have changed."""
        if not self.known or self.rng.random() < 0.1:
            self.open()
            return
        id_ = self.rng.choice(sorted(self.known))
        one, act = self.known[id_], self.night.ann
        text = f"text {self.rng.random()}"
        action = self.rng.choice(("comment", "assign", "close", "reopen", "merge", "split"))
        is_open, is_merged = one["state"] == "open", bool(one["merged_into"])
        if action == "comment" and self._may(not is_merged, act.comment_incident, id_, text):
            one["comments"] += 1
            self.texts[id_].append(text)
        elif action == "assign":
            who = self.rng.choice(("", "ops", "web", "bob"))
            if self._may(not is_merged, act.assign_incident, id_, who):
                one["assignee"] = who
        elif action == "close" and self._may(is_open, act.close_incident, id_, text):
            one["state"] = "closed"
            self.texts[id_].append(text)
        elif action == "reopen":
            if self._may(not is_open and not is_merged, act.reopen_incident, id_, text):
                one["state"] = "open"
                self.texts[id_].append(text)
        elif action == "merge":
            self._merge(id_, self.rng.choice(sorted(self.known)))
        elif action == "split":
            chosen = self.rng.sample(one["signals"], self.rng.randint(1, len(one["signals"])))
            stay = [signal for signal in one["signals"] if signal not in chosen]
            done = self._may(is_open and bool(stay), act.split_incident, id_, chosen)
            if done:
                one["signals"] = stay
                about = {one["id"]: one["asset"] for one in act.signals(limit=1000).items}
                assets = list(dict.fromkeys(about[signal] for signal in chosen))
                self._add(done["other"], assets, list(chosen), id_)

    def _merge(self, id_: str, into: str) -> None:
        one, other = self.known[id_], self.known[into]
        possible = id_ != into and one["state"] == other["state"] == "open"
        if self._may(possible, self.night.ann.merge_incident, id_, into):
            one |= {"state": "closed", "merged_into": into}
            for name in ("signals", "assets"):
                other[name] = list(dict.fromkeys((*other[name], *one[name])))

    def _may(self, possible: bool, act: Callable[..., Any], *given: Any) -> Any:
        try:
            done = act(*given)
        except (Conflict, UsageError):
            assert not possible, (act, given)
            return None
        assert possible, (act, given)
        return done

    def compare(self) -> None:
        listed = {one["id"]: one for one in self.night.ann.incidents(limit=1000).items}
        assert listed.keys() == self.known.keys()
        for id_, expected in self.known.items():
            assert {name: listed[id_][name] for name in expected} == expected, id_
            assert (listed[id_]["closed_at"] != "") == (expected["state"] == "closed")
            shown = self.night.ann.incident_facts(id_)
            said = [one["comment"] for one in shown["timeline"] if one["comment"]]
            assert said == self.texts[id_]


@pytest.mark.parametrize("seed", range(6))
def test_any_changes_are_read_back_and_rebuilt(night: Night, seed: int) -> None:
    """If this fails, the tables say something else of an incident than the ledger."""
    model = Model(night, random.Random(seed))
    for _ in range(150):
        model.step()
    model.compare()
    before = night.tables()
    rebuild(night.core.state)
    assert night.tables() == before
    model.compare()
    night.ann.checkpoint()
    assert night.ann.verify()["findings"] == []


def test_two_people_at_once(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, what the slower of two people does takes back what the faster one did."""
    id_ = night.incident()
    stored = find_incident(night.core.state, id_)
    assert stored is not None
    night.ann.assign_incident(id_, "web")
    monkeypatch.setattr("sextant.app.incidents.find_incident", lambda _state, _id: stored)
    with pytest.raises(Conflict, match=f"incident `{id_}` was changed by somebody else"):
        night.ann.comment_incident(id_, "read before it was assigned")
    with pytest.raises(Conflict, match="was changed by somebody else"):
        night.ann.close_incident(id_, "read before it was assigned")
    monkeypatch.undo()
    shown = night.ann.incident_facts(id_)
    assert (shown["assignee"], shown["comments"], shown["state"]) == ("web", 0, "open")
    night.ann.comment_incident(id_, "read again")


def test_status_tells_open_incidents(night: Night) -> None:
    """If this fails, the first page asks nobody to look at what burns, or still at what is over."""
    id_ = night.incident(night.signal())
    (told,) = night.ann.status()["incidents"]
    assert (told["id"], told["title"], len(told["signals"])) == (id_, "it burns", 1)
    night.ann.close_incident(id_, "done")
    assert night.ann.status()["incidents"] == []


def test_the_second_to_close_it_is_told(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an incident is closed twice, with two reasons."""
    id_ = night.incident()
    stored = find_incident(night.core.state, id_)
    night.ann.close_incident(id_, "the first")
    with pytest.raises(Conflict, match="is closed"):
        night.ann.close_incident(id_, "the second, who looked again")
    monkeypatch.setattr("sextant.app.incidents.find_incident", lambda _state, _id: stored)
    with pytest.raises(Conflict, match="was changed by somebody else"):
        night.ann.close_incident(id_, "the second, who did not")
    monkeypatch.undo()
    assert night.changes(id_) == ["opened", "closed"]


def test_events_of_earlier_releases(night: Night) -> None:
    """If this fails, an incident that an earlier release closed is open, or cannot be reopened."""
    id_ = night.incident()
    night.core.state.commit(
        Write((), (night.core.events.make("incident.closed", id_, Closed(id_)),))
    )
    assert night.ann.incidents().items[0]["state"] == "closed"
    night.ann.reopen_incident(id_, "it burns again")
    assert night.ann.incidents().items[0]["state"] == "open"
    assert night.changes(id_) == ["opened", "closed", "reopened"]


def test_an_erased_comment_is_gone_and_the_incident_stays(night: Night) -> None:
    """If this fails, a comment with a person's name cannot be erased without the incident."""
    id_ = night.incident()
    for text in ("fine", "eve lives in Oslo", "fine too"):
        night.ann.comment_incident(id_, text)
    night.ann.assign_incident(id_, "web")
    seq = next(
        entry.envelope.seq
        for entry in entries(night.core.state.read, "events_of_both", (id_, "incident.changed", 9))
        if "Oslo" in str(entry.data)
    )
    night.ann.erase(seq, "asked to")
    shown = night.ann.incident_facts(id_)
    assert [one["comment"] for one in shown["timeline"]] == [
        *("", "fine", "erased", "fine too", "", ""),
    ]
    assert shown["timeline"][-1]["change"] == "payload.erased"
    assert (shown["assignee"], shown["title"]) == ("web", "it burns")
    night.ann.checkpoint()
    assert night.ann.verify()["findings"] == []


def test_one_erasure_removes_a_title(night: Night) -> None:
    """If this fails, a title that quotes a person lives on in later events of its incident."""
    id_ = night.incident()
    night.ann.comment_incident(id_, "so what")
    night.ann.assign_incident(id_, "web")
    said = [
        str(entry.data)
        for entry in entries(night.core.state.read, "events_of_subject", (id_, 1 << 62, 10))
    ]
    assert ["it burns" in one for one in said] == [False, False, True]


# ---------------------------------------------------------------- what it shows


def test_its_timeline_says_who_and_why(night: Night) -> None:
    """If this fails, who comes in at night does not learn what the others did."""
    signal = night.signal()
    id_ = night.incident(signal)
    night.ann.assign_incident(id_, "bob")
    night.ann.comment_incident(id_, "the disk is full")
    night.ann.close_incident(id_, "made room")
    shown = night.ann.incident_facts(id_)
    assert [
        (one["change"], one["by"], one["comment"], one["assignee"]) for one in shown["timeline"]
    ] == [
        ("opened", "system:sextant", "", ""),
        ("assigned", "person:ann", "", "bob"),
        ("commented", "person:ann", "the disk is full", ""),
        ("closed", "person:ann", "made room", ""),
    ]
    assert [one["type"] for one in shown["timeline"][0]["because"]] == ["signal.raised"]
    assert [one["id"] for one in shown["signals_seen"]] == [signal]
    assert not shown["cut"]
    said = night.ann.why(id_)["reason"]
    assert "because of `signal.raised`" in said
    assert "by person:ann: made room" in said


def test_a_long_timeline_is_cut(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an incident of a thousand events cannot be shown, or hides that it has them."""
    monkeypatch.setattr("sextant.app.incidents.INCIDENT_EVENTS_SHOWN_MAX", 3)
    id_ = night.incident()
    for n in range(3):
        night.ann.comment_incident(id_, f"{n}")
    shown = night.ann.incident_facts(id_)
    assert shown["cut"]
    assert [one["comment"] for one in shown["timeline"]] == ["0", "1", "2"]


# ---------------------------------------------------------------- closing


def test_closing_it_says_which_signals_are_open(night: Night) -> None:
    """If this fails, signals are closed that nobody looked at, or stay open unseen."""
    one, other = night.signal(), night.signal()
    id_ = night.incident(one, other)
    assert night.ann.close_incident(id_, "done")["open_signals"] == [one, other]
    assert {one, other} <= night.open_signals()
    night.ann.reopen_incident(id_, "not done")
    night.ann.close_signal(one, "seen")
    done = night.ann.close_incident(id_, "all of it", with_signals=True)
    assert done["open_signals"] == []
    assert night.open_signals().isdisjoint({one, other})
    closed = entries(night.core.state.read, "events_of_both", (other, "signal.closed", 5))
    assert [entry.data["reason"] for entry in closed] == ["all of it"]
    assert len(entries(night.core.state.read, "events_of_both", (one, "signal.closed", 5))) == 1


def test_who_broke_the_glass_does_not_close_its_incident(night: Night) -> None:
    """If this fails, somebody signs off his own exception by way of an incident."""
    glass = night.signal(kind="glass.broken", by="person:ann")
    id_ = night.incident(night.signal(), glass)
    with pytest.raises(Denied, match="does not close the incident of its signal"):
        night.ann.close_incident(id_, "I had to")
    with pytest.raises(Denied):
        night.ann.close_incident(id_, "I had to", with_signals=True)
    other = night.incident()
    night.ann.merge_incident(id_, other)
    with pytest.raises(Denied):
        night.ann.close_incident(other, "I had to")
    split = night.ann.split_incident(other, [glass])["other"]
    with pytest.raises(Denied):
        night.ann.close_incident(split, "I had to")
    bob = Operations(night.p, Principal(name="bob"))
    assert bob.close_incident(split, "looked at it", with_signals=True)["open_signals"] == []
    assert glass not in night.open_signals()


# ---------------------------------------------------------------- merging, splitting, assigning


def test_a_merged_incident_ends(night: Night) -> None:
    """If this fails, two teams work on one fire without knowing."""
    one, other = night.signal(), night.signal("dataset:visits")
    first, second = night.incident(one), night.incident(other, assets=("dataset:visits",))
    night.ann.comment_incident(second, "same disk")
    done = night.ann.merge_incident(second, first)
    assert (done["state"], done["other"]) == ("closed", first)
    merged, taking = night.ann.incident_facts(second), night.ann.incident_facts(first)
    assert (merged["merged_into"], merged["signals"]) == (first, [other])
    assert taking["signals"] == [one, other]
    assert taking["assets"] == ["dataset:orders", "dataset:visits"]
    assert night.changes(first) == ["opened", "absorbed"]
    assert taking["timeline"][-1]["other"] == second
    assert taking["timeline"][-1]["because"][0]["subject"] == second
    assert f"merged into {first}" in night.ann.why(second)["reason"]
    for act in (night.ann.reopen_incident, night.ann.comment_incident, night.ann.close_incident):
        with pytest.raises(Conflict, match=f"was merged into `{first}`"):
            act(second, "late")
    with pytest.raises(UsageError, match="into itself"):
        night.ann.merge_incident(first, first)


def test_a_split_names_where_it_came_from(night: Night) -> None:
    """If this fails, a second matter cannot be told from the first, or loses its history."""
    one, other = night.signal(), night.signal("dataset:visits", "flood")
    id_ = night.incident(one, other, assets=("dataset:orders", "dataset:visits"))
    new = night.ann.split_incident(id_, [other])["other"]
    shown, rest = night.ann.incident_facts(new), night.ann.incident_facts(id_)
    assert (shown["split_from"], shown["signals"]) == (id_, [other])
    assert (shown["title"], shown["assets"]) == ("flood at dataset:visits", ["dataset:visits"])
    assert shown["timeline"][0]["because"][0]["subject"] == id_
    assert rest["signals"] == [one]
    assert rest["assets"] == ["dataset:orders", "dataset:visits"], "its title is about both"
    with pytest.raises(Conflict, match="these are all signals"):
        night.ann.split_incident(id_, [one])
    with pytest.raises(NotFound, match=f"has no signal `{other}`"):
        night.ann.split_incident(id_, [other])
    with pytest.raises(NotFound, match="no signal is named"):
        night.ann.split_incident(id_, [])


def test_it_is_assigned_to_somebody_who_is_known(night: Night) -> None:
    """If this fails, a misspelt name leaves an incident with nobody."""
    id_ = night.incident()
    night.p.access.create_account(
        "carol", "correct horse battery", by=night.core.authorization.who()
    )
    for who in ("ops", "eve", "carol", "ann", ""):
        assert night.ann.assign_incident(id_, who)["assignee"] == who
    with pytest.raises(NotFound) as error:
        night.ann.assign_incident(id_, "obs")
    assert error.value.hint == "did you mean `ops`?"


# ---------------------------------------------------------------- limits and mistakes


def test_its_limits(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one incident grows until nothing can read it."""
    id_, other = night.incident(), night.incident()
    monkeypatch.setattr("sextant.app.incidents.INCIDENT_COMMENTS_MAX", 1)
    night.ann.comment_incident(id_, "one")
    with pytest.raises(Conflict, match="has 1 comments"):
        night.ann.comment_incident(id_, "two")
    monkeypatch.setattr("sextant.app.incidents.INCIDENT_SIGNALS_MAX", 1)
    with pytest.raises(Conflict, match="together they have 2 signals"):
        night.ann.merge_incident(id_, other)
    for act in (night.ann.comment_incident, night.ann.close_incident):
        with pytest.raises(UsageError, match="has 4,001 characters"):
            act(other, "x" * 4_001)
        with pytest.raises(UsageError, match="needs a text"):
            act(other, "  ")
    night.ann.close_incident(other, "done")
    with pytest.raises(UsageError, match="needs a text"):
        night.ann.reopen_incident(other, "")


def test_what_is_not_there(night: Night) -> None:
    """If this fails, a mistyped id is answered with something else than that."""
    id_ = night.incident()
    for act in (
        lambda: night.ann.incident_facts("inc_none"),
        lambda: night.ann.close_incident("inc_none", "done"),
        lambda: night.ann.merge_incident(id_, "inc_none"),
    ):
        with pytest.raises(NotFound, match="there is no incident `inc_none`"):
            act()
    with pytest.raises(Conflict, match="is open"):
        night.ann.reopen_incident(id_, "again")


# ---------------------------------------------------------------- who may


def test_who_may_work_on_it(night: Night) -> None:
    """If this fails, somebody closes another team's incident, or cannot work on his own."""
    mixed = night.incident(
        night.signal(), night.signal("dataset:visits"), assets=("dataset:orders", "dataset:visits")
    )
    theirs = night.incident(night.signal("dataset:visits"), assets=("dataset:visits",))
    with serve(night.p) as serving:
        people = {
            "viewer": connect(serving.url, serving.token("viewer")),
            "stranger": connect(serving.url, serving.token("operator", name="zoe", kind="person")),
            "eve": connect(serving.url, serving.token("operator", name="eve", kind="person")),
            "bob": connect(serving.url, serving.token("operator", name="bob", kind="person")),
        }

        def may(who: str, method: str, *given: Any) -> bool:
            try:
                getattr(people[who], method)(*given)
            except SextantError as error:
                assert isinstance(error, Denied), error
                return False
            return True

        for who in ("viewer", "stranger"):
            assert may(who, "incident_facts", theirs)
            assert not may(who, "comment_incident", theirs, "hello")
            assert not may(who, "merge_incident", theirs, mixed)
        assert may("eve", "comment_incident", theirs, "hello")
        for who in ("eve", "bob"):  # of one team each
            assert not may(who, "comment_incident", mixed, "hello")
        assert not may("eve", "merge_incident", theirs, mixed), "it is another team's too"
        assert may("eve", "close_incident", theirs, "done")
        for one in people.values():
            one.close()
    assert night.changes(theirs) == ["opened", "commented", "closed"]
    assert night.changes(mixed) == ["opened"]


def test_rules_see_assets_and_environment(night: Night, shop: Shop) -> None:
    """If this fails, a rule about one environment does not fire for its incidents."""
    shop.write(
        OPS
        + "\nsx.policy(\"no\", when=\"verb == 'signal' && env == 'prod' && "
        + 'asset.name == \'visits\'", then="deny")\n'
    )
    night.core.project.load()
    with pytest.raises(Denied, match="no"):
        night.ann.comment_incident(night.incident(night.signal("dataset:visits")), "hello")
    night.ann.comment_incident(night.incident(night.signal("dataset:orders")), "hello")


# ---------------------------------------------------------------- what it hides


def test_texts_about_people_are_hidden(shop: Shop) -> None:
    """If this fails, a viewer reads in an incident what he must not read in the table."""
    shop.write(
        """
        @sx.dataset(personal=["name"])
        def people() -> pl.DataFrame:
            return pl.DataFrame({"name": ["Zoe"]})

        @sx.dataset()
        def places() -> pl.DataFrame:
            return pl.DataFrame({"id": [1]})
        """
    )
    with shop.open() as p:
        night = Night(p)
        hidden = night.signal("dataset:people"), night.signal("dataset:places")
        id_ = night.incident(*hidden, assets=("dataset:people", "dataset:places"))
        open_one = night.incident(night.signal("dataset:places"), assets=("dataset:places",))
        for one in (id_, open_one):
            night.ann.comment_incident(one, "Zoe did it")
            night.ann.close_incident(one, "told Zoe")
            night.ann.reopen_incident(one, "Zoe again")
        night.ann.split_incident(id_, [hidden[0]])
        night.ann.close_incident(id_, "Zoe is gone")
        viewer = Operations(p, Principal(name="vera", role="viewer"))
        shown = viewer.incident_facts(id_)
        assert {shown["title"], *(one["comment"] for one in shown["timeline"])} == {HIDDEN, ""}
        seen = msgspec.json.encode([viewer.why(id_), viewer.events(subject=id_), shown])
        assert b"Zoe" not in seen
        assert viewer.incident_facts(open_one)["timeline"][1]["comment"] == "Zoe did it"
        assert night.ann.incident_facts(id_)["timeline"][1]["comment"] == "Zoe did it"
        assert '"comment":' in selects(["dataset:people"])["ops", "events"]


# ---------------------------------------------------------------- commands


@pytest.fixture
def sextant(night: Night, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., Any]:
    """Run a command in the project; return its exit code, stdout and stderr."""
    from sextant.cli.main import call

    monkeypatch.setenv("SEXTANT_USER", "ann")

    def run(*words: str) -> tuple[int, str, str]:
        code = call(["--project", str(night.core.project.root), *words])
        out = capfd.readouterr()
        return code, out.out, out.err

    return run


def test_commands(night: Night, sextant: Callable[..., Any]) -> None:
    """If this fails, what people do at night from a shell does something else, or fails."""
    one, other = night.signal(), night.signal("dataset:visits", "flood")
    id_ = night.incident(one, other, assets=("dataset:orders", "dataset:visits"))
    assert f"incident {id_} has 1 comment\n" in sextant("incidents", id_, "--comment", "disk")[1]
    assert f"incident {id_} is assigned to bob" in sextant("incidents", id_, "--assign", "bob")[1]
    assert "assigned to nobody" in sextant("incidents", id_, "--assign", "")[1]
    code, out, _ = sextant("incidents", id_, "--close", "made room")
    assert (code, out.splitlines()) == (
        0,
        [f"incident {id_} is closed", f"signals that are still open: {one}, {other}"],
    )
    assert "is open again" in sextant("incidents", id_, "--reopen", "full again")[1]
    done = json.loads(sextant("incidents", id_, "--split", other, "--json")[1])
    assert sextant("incidents", done["other"], "--merge", id_)[0] == 0
    done = json.loads(
        sextant("incidents", id_, "--close", "all of it", "--with-signals", "--json")[1]
    )
    assert (done["state"], done["open_signals"]) == ("closed", [])
    code, out, _ = sextant("incidents", id_)
    assert code == 0
    assert f"incident {id_} closed: it burns" in out
    for text in ("commented  by person:ann\n    disk\n", f"absorbed inc_", "because signal.raised"):
        assert text in out
    shown = json.loads(sextant("incidents", id_, "--json")[1])
    assert [step["change"] for step in shown["timeline"]] == night.changes(id_)
    assert id_ in sextant("incidents")[1]
    assert json.loads(sextant("incidents", "--json")[1])[-1]["id"] == id_


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--close", "done"), 2, "SX-CLI-071"),
        (("{id}", "--close", "done", "--comment", "x"), 2, "SX-CLI-070"),
        (("{id}", "--with-signals"), 2, "SX-CLI-072"),
        (("{id}", "--comment", ""), 2, "SX-INCIDENT-010"),
        (("{id}", "--assign", "nobody"), 2, "SX-INCIDENT-011"),
        (("{id}", "--reopen", "why"), 2, "SX-INCIDENT-005"),
        (("inc_none",), 2, "SX-INCIDENT-001"),
        (("inc_none", "--close", "done"), 2, "SX-INCIDENT-001"),
    ],
)
def test_commands_that_are_wrong(
    night: Night, sextant: Callable[..., Any], words: tuple[str, ...], code: int, said: str
) -> None:
    """If this fails, a mistake at the keyboard is answered with a wrong exit code or no hint."""
    id_ = night.incident()
    found, _, err = sextant("incidents", *(word.format(id=id_) for word in words))
    assert found == code
    assert said in err
    assert "hint" in err
    assert night.changes(id_) == ["opened"]
