"""A toy kind of asset: `sx.notice`, a text that is made of rows, and hangs on a wall while it is
live. All that a kind can bring, in one small module."""

import hashlib
from pathlib import Path

from sextant import plugin

NAME = "notice"


class Spec(plugin.Noun, frozen=True, kw_only=True):
    """What only this kind knows of an asset."""

    text: str
    wall: str


class Notice(plugin.Declared):
    """A declared notice."""

    of_kind = NAME

    def __init__(self, name, of, spec, owner, release):
        self.name, self.of, self.spec, self.owner = name, of, spec, owner
        self.release, self.place = release, plugin.caller()


def notice(name, *, of, text, wall="wall", owner="", release=None):
    """Hang up a text; `{rows}` in it is the number of rows of the dataset `of`."""
    name, owner = plugin.forms.name(NAME, name), plugin.forms.owner(owner)
    release = plugin.forms.strategy(release) or plugin.Strategy()
    made = Notice(name, plugin.source_of(of).asset, Spec(text=text, wall=wall), owner, release)
    plugin.forms.register(made)
    return made


class Authored(plugin.Authored):
    def draft(self, declared, project):
        inputs = (plugin.Input(name="rows", asset=declared.of, window="all"),)
        name, owner, place = declared.name, declared.owner, declared.place
        return plugin.Draft(NAME, declared.id, name, owner, place, declared, inputs)

    def assets(self, draft, project):
        spec, place = draft.body.spec, draft.place
        file = project.collector.relative(place.file)
        digest = hashlib.sha256(spec.text.encode()).hexdigest()
        code = plugin.Code(
            language="python", entry="", file=file, line=place.line, fingerprint=digest
        )
        yield plugin.Asset(
            kind=NAME,
            name=draft.name,
            owner=project.owner(draft),
            spec=plugin.spec_of(spec),
            build=plugin.Build(code=code, inputs=draft.inputs),
            on=(plugin.Trigger(kind="inputs"),),
            release=draft.body.release,
            file=file,
            line=place.line,
        )


def perform(order):
    """Make the text: in a worker."""
    rows = plugin.rows(order.inputs[0])
    text = order.asset.spec_as(Spec).text.format(rows=rows.num_rows)
    return plugin.result(order, plugin.written(order, text.encode(), rows=len(text)))


class Released(plugin.MadeRelease):
    """While a release is rolled out, the new text hangs beside the old one, with its share."""

    def roll(self, release, fence):
        move, share = release.moves[0], release.strategy.steps[release.step]
        self._hang(move.asset, move.target, f"{share} percent" if share < 100 else "")
        if share == 100:
            self._hang(move.asset, "", "percent")
        return plugin.HOLDS

    def undo(self, release, fence):
        move = release.moves[0]
        self._hang(move.asset, "", "percent")
        self._hang(move.asset, move.source)
        return plugin.HOLDS

    def facts(self, move, brought):
        return {"letters": sum(part.rows for part in brought)}

    def _hang(self, id_, version, beside=""):
        asset = self._core.assets.known(id_)
        wall = Path(self._core.project.root, asset.spec_as(Spec).wall)
        wall.mkdir(exist_ok=True)
        for old in wall.glob(f"{asset.name} *percent" if beside else asset.name):
            old.unlink()
        if version:
            text = plugin.body(self._core, id_, version)
            (wall / f"{asset.name} {beside}".strip()).write_bytes(text)


def row(version):
    """Return a version as a row of the table `ops.notices`."""
    return {"letters": version.rows}


KIND = plugin.Kind(
    NAME,
    authored=Authored,
    made=plugin.Made,
    released=Released,
    facts={"letters": 0},
    table=plugin.Table({"letters": "int"}, row),
    strategies=("direct", "blue_green", "canary", "shadow"),
)


def rows():
    """Return what this package brings, for the entry point `sextant.plugins`."""
    return [
        ("kind.notice", "notices:KIND"),
        ("perform.notice", "notices:perform"),
        ("word.blue_green", "sextant.project.strategies:blue_green"),
        ("word.canary", "sextant.project.strategies:canary"),
        ("word.notice", "notices:notice"),
        ("word.shadow", "sextant.project.strategies:shadow"),
    ]
