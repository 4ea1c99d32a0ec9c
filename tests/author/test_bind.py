"""Signatures to bindings."""

import textwrap

FRAMES = """
    @sx.dataset()
    def a() -> pl.DataFrame: ...
"""


def one(project, signature, extra="", settings=""):
    project.ops(
        textwrap.dedent(FRAMES)
        + textwrap.dedent(extra)
        + f"@sx.dataset({settings})\ndef b({signature}) -> pl.DataFrame: ...\n"
    )
    return project.asset("dataset:b").build


def test_the_annotation_decides_the_frame(project):
    """The function would get a frame whose methods it does not know."""
    extra = "import pandas as pd\nimport pyarrow as pa\nimport duckdb\n"
    for annotation, frame in [
        ("", "polars"),
        (": pl.DataFrame", "polars"),
        (": pl.LazyFrame", "polars_lazy"),
        (": pd.DataFrame", "pandas"),
        (": pa.Table", "pyarrow"),
        (": duckdb.DuckDBPyRelation", "duckdb"),
        (": 'pl.LazyFrame'", "polars_lazy"),
    ]:
        (bound,) = one(project, f"a{annotation}", extra).inputs
        assert (bound.name, bound.asset, bound.frame, bound.window) == (
            "a",
            "dataset:a",
            frame,
            "",
        ), annotation


def test_annotations_kept_as_text_are_resolved_even_under_type_checking(project):
    """`from __future__ import annotations` with guarded imports would bind the wrong frame."""
    project.write(
        "ops.py",
        """\
        from __future__ import annotations
        from typing import TYPE_CHECKING
        import sextant as sx
        if TYPE_CHECKING:
            import pandas as pd
            import polars
            from polars import LazyFrame as Lazy
            from sextant import Partition
        sx.project("p")
        @sx.dataset(partition=sx.static("x"))
        def a(part: Partition) -> pd.DataFrame: ...
        @sx.dataset()
        def b(x: pd.DataFrame, y: Lazy, z: polars.DataFrame, c: sx.Context) -> pd.DataFrame: ...
        @sx.dataset()
        def x(): ...
        @sx.dataset()
        def y(): ...
        @sx.dataset()
        def z(): ...
        """,
    )
    manifest = project.manifest()
    assert manifest.asset("dataset:a").build.wants_partition == "part"
    build = manifest.asset("dataset:b").build
    assert [i.frame for i in build.inputs] == ["pandas", "polars_lazy", "polars"]
    assert build.wants_context == "c"


def test_inputs_say_what_names_do_not(project):
    """A window would silently be the same partition."""
    build = one(
        project,
        "past, k, text",
        settings='inputs={"past": sx.window("d", "90d"), "k": num, "text": "a"}',
        extra="""
        num = sx.kpi("n", of=a, measure="count(*)", grain="")
        @sx.dataset(partition=sx.daily(start="2026-01-01"))
        def d() -> pl.DataFrame: ...
        """,
    )
    assert [(i.name, i.asset, i.window) for i in build.inputs] == [
        ("past", "dataset:d", "90d"),
        ("k", "dataset:kpi_n", ""),
        ("text", "dataset:a", ""),
    ]


def test_a_parameter_with_a_default_is_a_setting(project):
    """It would be taken for an upstream asset."""
    build = one(
        project,
        (
            "a, depth: int = 6, names: list = ['x'], rate: float = 0.5, flag: bool = False, "
            "none=None, deep={'a': [1]}"
        ),
    )
    assert build.params == {
        "depth": 6,
        "names": ["x"],
        "rate": 0.5,
        "flag": False,
        "none": None,
        "deep": {"a": [1]},
    }


def refused(project, signature, settings=""):
    project.ops(
        textwrap.dedent(FRAMES)
        + f"@sx.dataset({settings})\ndef b({signature}) -> pl.DataFrame: ...\n"
    )
    return project.error()


def test_a_setting_that_is_no_json_is_refused(project):
    """It would be compared by its address, or change type on its way to the worker."""
    error = refused(project, "a, when=(1, 2)")
    assert error.code == "SX-PROJ-032"
    assert (
        error.message
        == "the setting `when` of `b` has a default of type tuple, which cannot be tracked"
    )
    assert error.where == "ops.py:7"
    assert refused(project, "a, x=float('nan')").code == "SX-PROJ-032"


def test_a_parameter_that_is_no_frame_is_refused(project):
    """`depth: int` without a default would be reported as an unknown dataset `depth`."""
    error = refused(project, "a: dict")
    assert error.code == "SX-PROJ-033"
    assert error.message == "the parameter `a` of `b` is annotated `dict`, which is no frame"


def test_parameters_that_cannot_be_named_are_refused(project):
    """They would be called without arguments."""
    assert "which cannot be bound by name" in refused(project, "a, *more").message
    assert "which cannot be bound by name" in refused(project, "a, **more").message
    assert "twice" in refused(project, "x: sx.Partition, y: sx.Partition").message
    error = refused(project, "a", settings='inputs={"aa": "a"}')
    assert error.code == "SX-PROJ-034"
    assert error.message == "`inputs` of `b` names `aa`, which is no parameter"
