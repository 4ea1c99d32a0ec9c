"""sextant.toml."""

import pytest

from sextant.project.config import Config, find_config, read_config
from sextant.kernel.errors import NotFound, ProjectError


def test_everything_is_read(tmp_path):
    """A setting that is written and ignored."""
    (tmp_path / "sextant.toml").write_text(
        'module = "flights/ops.py"\nstate = "postgresql://x/y"\nlake = "/data"\nenvironment '
        '= "prod"\nworkers = 3\ninclude = ["seeds/*.csv"]\n[pools]\napi = 2\n'
    )
    wanted = Config(
        root=tmp_path.resolve(),
        module="flights.ops",
        state="postgresql://x/y",
        lake="/data",
        environment="prod",
        workers=3,
        include=("seeds/*.csv",),
        pools={"api": 2},
    )
    assert read_config(tmp_path) == wanted


@pytest.mark.parametrize(
    ("written", "module"),
    [
        ("ops", "ops"),
        ("flights.ops", "flights.ops"),
        ("flights/ops.py", "flights.ops"),
        ("flights/__init__.py", "flights"),
        ("./ops.py", None),
    ],
)
def test_a_module_is_a_name_or_a_path(tmp_path, written, module):
    """People write either."""
    (tmp_path / "sextant.toml").write_text(f'module = "{written}"\n')
    if module is None:
        with pytest.raises(ProjectError, match="is not a module"):
            read_config(tmp_path)
    else:
        assert read_config(tmp_path).module == module


def test_it_is_found_from_below(tmp_path):
    """Commands would only work in the project's top folder."""
    (tmp_path / "sextant.toml").write_text('module = "ops"\n')
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_config(tmp_path / "a" / "b") == tmp_path.resolve()
    assert find_config(tmp_path) == tmp_path.resolve()


def test_none_at_all_is_said_with_what_to_do(tmp_path):
    """FileNotFoundError is no help to a newcomer."""
    for call in (find_config, read_config):
        with pytest.raises(NotFound) as caught:
            call(tmp_path)
        assert caught.value.code == "SX-CONF-001"
        assert "`sextant init NAME`" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "code", "where", "message", "hint"),
    [
        (
            'module = "ops"\n\nenviroment = "prod"\n',
            "SX-CONF-003",
            "sextant.toml:3",
            "has no setting `enviroment`",
            "did you mean `environment`?",
        ),
        (
            'module = "ops"\n[pool]\na = 1\n',
            "SX-CONF-003",
            "sextant.toml:2",
            "has no setting `pool`",
            "did you mean `pools`?",
        ),
        (
            'module = "ops"\nzzz = 1\n',
            "SX-CONF-003",
            "sextant.toml:2",
            "has no setting `zzz`",
            "it knows module",
        ),
        (
            "workers = 1\n",
            "SX-CONF-004",
            "sextant.toml:1",
            "`module` of sextant.toml",
            "say where the project begins",
        ),
        (
            'module = "ops"\nworkers = "two"\n',
            "SX-CONF-004",
            "sextant.toml:2",
            "`workers` of sextant.toml: Expected `int`, got `str`",
            "reference",
        ),
        (
            'module = "ops"\nworkers = 1000\n',
            "SX-CONF-004",
            "sextant.toml:2",
            "`workers` is 1000",
            "from 0",
        ),
        (
            'module = "ops"\n[pools]\napi = 0\n',
            "SX-CONF-004",
            "sextant.toml:3",
            "the pool `api` lets 0 steps run",
            "at least 1",
        ),
        (
            'module = "my ops"\n',
            "SX-CONF-004",
            "sextant.toml:1",
            "`my ops` is not a module",
            "flights.ops",
        ),
        (
            'module = "ops"\n[server]\nheartbeat = "monitor"\n',
            "SX-CONF-005",
            "sextant.toml:3",
            "`heartbeat` of sextant.toml is `monitor`",
            "https://host/path",
        ),
        (
            'module = "ops"\n[server]\napi = "7780"\n',
            "SX-CONF-005",
            "sextant.toml:3",
            "`api` of sextant.toml is `7780`",
            "host and port",
        ),
        (
            'module = "ops"\nstate = oops\n',
            "SX-CONF-002",
            "sextant.toml:2",
            "sextant.toml is not TOML",
            "module",
        ),
    ],
)
def test_a_mistake_is_refused_at_its_line(tmp_path, text, code, where, message, hint):
    """A misspelt setting would silently do nothing."""
    (tmp_path / "sextant.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        read_config(tmp_path)
    assert (caught.value.code, caught.value.where) == (code, where)
    assert message in caught.value.message
    assert hint in caught.value.hint
