"""A project that is wrong as a whole: every mistake, with its place and how to mend it."""

TWO = """
@sx.dataset()
def flights() -> pl.DataFrame: ...

@sx.dataset()
def planes() -> pl.DataFrame: ...
"""


def test_an_unknown_upstream_names_the_nearest(project):
    """The author would search for a typing error by eye."""
    project.ops(TWO + "\n@sx.dataset()\ndef features(flihgts: pl.DataFrame) -> pl.DataFrame: ...\n")
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-008", "ops.py:11")
    assert error.message == "`features` reads `flihgts`, which does not exist"
    assert error.hint == "did you mean `flights`? (a setting needs a default)"


def test_a_circle_shows_its_path(project):
    """The engine would wait for itself."""
    project.ops(
        "@sx.dataset()\ndef a(c) -> pl.DataFrame: ...\n@sx.dataset()\ndef b(a) -> "
        "pl.DataFrame: ...\n@sx.dataset()\ndef c(b) -> pl.DataFrame: ...\n"
    )
    error = project.error()
    assert error.code == "SX-PROJ-009"
    assert error.message == "the assets feed each other in a circle: a -> b -> c -> a"
    project.ops("@sx.dataset()\ndef a(a) -> pl.DataFrame: ...\n")
    assert project.error().message == "the assets feed each other in a circle: a -> a"


def test_a_diamond_is_no_circle(project):
    """A false alarm would forbid ordinary graphs."""
    body = "".join(
        f"@sx.dataset()\ndef {name}({args}) -> pl.DataFrame: ...\n"
        for name, args in [("d", "b, c"), ("b", "a"), ("c", "a"), ("a", "")]
    )
    project.ops(body)
    assert len(project.manifest().assets) == 4 + 1, "and the project itself"


def test_a_deep_chain_does_not_exhaust_the_stack(project):
    """Three thousand assets in a row are many, but no mistake."""
    project.ops(
        """
        for n in range(3000):
            space = {"sx": sx}
            exec(f"def a{n}({'' if n == 0 else f'a{n - 1}'}): ...", space)
            sx.dataset()(space[f"a{n}"])
        """
    )
    assert len(project.manifest().assets) == 3000 + 1


def test_two_assets_of_one_name_show_both_places(project):
    """One of them would silently win."""
    project.ops(TWO + "\n@sx.dataset(name='flights')\ndef other() -> pl.DataFrame: ...\n")
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-005", "ops.py:11")
    assert error.message == "two assets are called `dataset:flights`"
    assert error.hint == "the other stands at ops.py:5; give one another name"


def test_a_kpi_and_a_dataset_may_share_a_name_but_not_the_values_name(project):
    """`dataset:kpi_x` would have two makers."""
    project.ops(
        TWO
        + (
            "\nsx.kpi('flights', of=flights, measure='count(*)', grain='')\n@sx.dataset()\ndef "
            "kpi_flights() -> pl.DataFrame: ...\n"
        )
    )
    assert project.error().message == "two assets are called `dataset:kpi_flights`"


def test_an_unknown_owner_is_refused_wherever_it_stands(project):
    """Pages would go nowhere."""
    project.ops('sx.team("ops")\n@sx.dataset(owner="opps")\ndef a() -> pl.DataFrame: ...\n')
    error = project.error()
    assert (error.code, error.message, error.hint, error.where) == (
        "SX-PROJ-026",
        "there is no team `opps`",
        "did you mean `ops`?",
        "ops.py:5",
    )
    project.ops('@sx.dataset(owner="ops")\ndef a() -> pl.DataFrame: ...\n')
    assert project.error().hint == 'declare it: `sx.team("ops")`'
    project.ops('sx.policy("x", when="true", then=sx.approval(1, of="ops"))\n')
    assert project.error().message == "there is no team `ops`"


def test_a_foreign_key_must_lead_to_a_dataset(project):
    """The check would fail at run time, or pass without looking."""
    project.ops(
        TWO
        + (
            '@sx.dataset(checks=[sx.foreign_key("t", to="plains.tailnum")])\ndef a() -> '
            "pl.DataFrame: ...\n"
        )
    )
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-011", "ops.py:10")
    assert error.message == (
        "the check `foreign_key(t, plains.tailnum)` of `a` looks into `plains`, which does "
        "not exist"
    )
    assert error.hint == "did you mean `planes`?"
    project.ops(
        TWO
        + '@sx.dataset(checks=[sx.foreign_key("t", to="planes")])\ndef a() -> pl.DataFrame: ...\n'
    )
    assert "`planes` does not name a column of a dataset" in project.error().message


def test_a_check_declared_twice_is_refused(project):
    """Two results of one name could not be told apart."""
    project.ops('@sx.dataset(key="id", checks=[sx.unique("id")])\ndef a() -> pl.DataFrame: ...\n')
    error = project.error()
    assert (error.code, error.message) == ("SX-PROJ-028", "`a` has the check `unique(id)` twice")


def test_the_project_must_have_one_name(project):
    """State would be filed under nothing, or under either."""
    project.write("ops.py", "import sextant as sx\n")
    error = project.error()
    assert (error.code, error.message, error.where) == (
        "SX-PROJ-006",
        "the project has no name",
        "sextant.toml:1",
    )
    project.ops('sx.project("again")\n')
    error = project.error()
    assert (error.code, error.message, error.where) == (
        "SX-PROJ-004",
        "`project` is called twice",
        "ops.py:4",
    )
    assert "first at ops.py:3" in error.hint


def test_all_mistakes_are_reported_at_once_in_order(project):
    """The author would mend one, load, mend the next ..."""
    project.ops(
        TWO
        + """
sx.team("ops")
@sx.dataset(tier=9, ownr="ops", keep="soon")
def a(fligts) -> pl.DataFrame: ...
sx.kpi("k", of="flihgts", measure="dep_delay")
@sx.dataset(owner="nobody")
def planes() -> pl.DataFrame: ...
"""
    )
    error = project.error()
    assert error.code == "SX-PROJ-001"
    assert error.where == "ops.py:12"
    assert error.message.splitlines() == [
        "the project has 7 mistakes",
        "  ops.py:12: `9` is not a tier (SX-PROJ-022)",
        "    hint: 1 (the company stops), 2 or 3 (can wait)",
        "  ops.py:12: `a` reads `fligts`, which does not exist (SX-PROJ-008)",
        "    hint: did you mean `flights`? (a setting needs a default)",
        "  ops.py:12: `dataset` has no setting `ownr` (SX-PROJ-002)",
        "    hint: did you mean `owner`?",
        "  ops.py:12: `keep`: `soon` is not a length of time (SX-PROJ-012)",
        "    hint: write it as `3d`, `36h`, `10m` or `30s`",
        "  ops.py:14: the KPI `k` is of `flihgts`, which does not exist (SX-PROJ-008)",
        "    hint: did you mean `flights`?",
        (
            "  ops.py:14: the measure of `k` cannot be taken: it has no aggregate such as "
            "count(*) or sum(x) (SX-PROJ-050)"
        ),
        "    hint: as in `count(*) filter (where dep_delay < 15) / count(*)`",
        "  ops.py:15: two assets are called `dataset:planes` (SX-PROJ-005)",
        "    hint: the other stands at ops.py:8; give one another name",
    ]


def test_mistakes_before_a_crash_are_reported_with_it(project):
    """The crash would hide what had been found."""
    project.ops("@sx.dataset(tier=9)\ndef a() -> pl.DataFrame: ...\n1 / 0\n")
    lines = project.error().message.splitlines()
    assert lines[0] == "the project has 2 mistakes"
    assert lines[1].startswith("  ops.py:4: `9` is not a tier")
    assert lines[3].startswith(
        "  ops.py:6: importing the project raised ZeroDivisionError: division by zero (SX-PROJ-062)"
    )


def test_a_syntax_error_has_the_projects_own_line(project):
    """The place would be somewhere inside of the importer."""
    project.ops("from helper import x\n")
    project.write("helper.py", "\n\ndef broken(:\n    pass\n")
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-060", "helper.py:3")
    assert error.message == "syntax error: invalid syntax in `def broken(:`"


def test_an_import_that_fails_says_which_line_asked(project):
    """`No module named x` without the file that wants it."""
    project.ops("\nfrom delais import x\n")
    project.write("delays.py", "def download(): ...\n")
    error = project.error()
    assert (error.code, error.where, error.message) == (
        "SX-PROJ-061",
        "ops.py:5",
        "there is no module `delais`",
    )
    assert error.hint == "did you mean `delays`?"
    project.ops("import polrs_x\n")
    assert project.error().hint == "install what provides `polrs_x` into this environment"
    project.ops("from delays import downlod\n")
    error = project.error()
    assert (error.where, error.message, error.hint) == (
        "ops.py:4",
        "cannot import name 'downlod' from 'delays'",
        "did you mean `download`?",
    )


def test_a_module_that_ends_the_process_is_an_error(project):
    """sys.exit(0) in a script looks like success."""
    project.ops("import sys\nsys.exit(0)\n")
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-062", "ops.py:5")
    assert "ends the process" in error.message


def test_a_module_name_that_python_has_taken_is_an_error(project):
    """The standard library's module would be loaded and declare nothing."""
    import pytest

    from sextant.kernel.errors import ProjectError

    project.write("queue.py", "import sextant as sx\n")
    with pytest.raises(ProjectError) as caught:
        project.manifest(root="queue")
    assert caught.value.code == "SX-PROJ-063"


def test_a_missing_module_is_reported_at_the_configuration(project):
    """`No module named ops` does not say that sextant.toml asks for it."""
    project.write("main.py", "import sextant as sx\n")
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-061", "sextant.toml:1")
    assert error.message == "there is no module `ops` below the project's folder"
