"""Values of a kind that a setting does not take."""

import pytest

DATASET = "@sx.dataset({})\ndef a() -> pl.DataFrame: ...\n"
ONES = [
    *(
        (DATASET.format(setting), setting.partition("=")[0], hint)
        for setting, hint in [
            ('partition=["2013-01-01"]', "sx.daily"),
            ('partition="daily"', "sx.daily"),
            ("key=5", "the name of a column, or a list of names"),
            ("key={'a', 'b'}", "the name of a column, or a list of names"),
            ("key=['a', 5]", "a text"),
            ("personal=5", "the name of a column, or a list of names"),
            ("time=['at']", "a text"),
            ("checks=sx.not_null('a')", "a list of checks"),
            ("checks=5", "a list of checks"),
            ("inputs=['b']", "a mapping of names to assets"),
            ("inputs=[]", "a mapping of names to assets"),
            ("owner=5", "a team, or its name"),
            ("owner=['ops']", "a team, or its name"),
            ("columns=['a']", "a mapping of columns to types"),
            ("columns={'a': 5}", "a text"),
            ("retries='3'", "a number from 0 to 20"),
            ("retries=True", "a number from 0 to 20"),
            ("whole_range='yes'", "True or False"),
            ("deterministic=0", "True or False"),
            ("timeout=60", "a text"),
            ("memory=2", "a text"),
            ("keep=30", "a text"),
            ("lookback=3", "a text"),
            ("pool=1", "a text"),
            ("name=5", "a text"),
            ("description=5", "a text"),
            ("durability=['strict']", "strict"),
        ]
    ),
    ("sx.sql(5)\n", "sql", "the path of a file"),
    ("sx.team('ops', members='ann')\n", "members", "a list of texts"),
    ("sx.team(5)\n", "name", "a text"),
    ("sx.stream('s', columns=['id'])\n", "columns", "a mapping of columns to types"),
    ("sx.stream('s', columns={'id': 'int64'}, key=5)\n", "key", "a list of names"),
    ("sx.stream('s', columns={'id': 'int64'}, partition=['x'])\n", "partition", "sx.daily"),
    ("sx.kpi('k', of='b', measure=5, grain='')\n", "measure", "a text"),
    ("sx.kpi('k', of='b', measure='count(*)', grain='', by=5)\n", "by", "a list of names"),
    ("sx.kpi('k', of='b', measure='count(*)', grain='', goal='> 1')\n", "goal", "sx.goal"),
    ("sx.static(['a', 'b'])\n", "static", "a text"),
    ("sx.cron(5)\n", "cron", "a text"),
    ("sx.window('b', 90)\n", "window", "a text"),
    ("sx.secret(5)\n", "secret", "a text"),
    ("sx.goal(5)\n", "goal", "a text"),
    ("sx.approval('two', of='ops')\n", "approval", "how many people"),
    ("sx.not_null(['a', 'b'])\n", "not_null", "a text"),
    ("sx.unique(5)\n", "unique", "a text"),
    ("sx.between(5, 0, 1)\n", "between", "a text"),
    ("sx.accepted_values('a', 'abc')\n", "values", "a list"),
    ("sx.accepted_values('a', 5)\n", "values", "a list"),
    ("sx.matches('a', 5)\n", "pattern", "a text"),
    ("sx.foreign_key('a', to=5)\n", "to", "a text"),
    ("sx.schema(['a'])\n", "schema", "a mapping of columns to types"),
    ("sx.fresh(within=36)\n", "within", "a text"),
    ("sx.sql_check('a', 5)\n", "query", "a text"),
]


@pytest.mark.parametrize(("text", "setting", "hint"), ONES)
def test_a_value_of_another_kind_is_a_mistake_with_its_place(project, text, setting, hint):
    """The author would read a traceback of ours, or find single letters taken for names."""
    project.ops("@sx.dataset()\ndef b() -> pl.DataFrame: ...\n" + text)
    error = project.error()
    assert error.where == "ops.py:6"
    said = f"{error.message} {error.hint}"
    assert f"is not a value of `{setting}`" in said
    assert hint in said
    assert "raised" not in said


def test_a_schedule_that_is_a_text_is_one_mistake(project):
    """Each of its letters was one."""
    project.ops(DATASET.format("on='0 5 * * *'"))
    error = project.error()
    assert (error.code, error.where) == ("SX-PROJ-017", "ops.py:4")
    assert error.hint == 'write `on=sx.cron("0 5 * * *")`'
