"""A function's signature to what its parameters receive: upstream assets, settings, secrets, the
partition, the context.

A parameter without a default is an upstream asset of that name; with a default it is a tracked
setting. `Partition` and
`Context` bind by annotation, a `secret` by its default. The annotation decides which frame arrives.
Annotations are
compared by name: the frame libraries are not imported for it.
"""

import ast
import builtins
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sextant.kernel import extras
from sextant.kinds.dataset.spec import KIND
from sextant.project.collect import Collector, Place, near
from sextant.project.declared import Secret, Window

FRAMES = {
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "polars_lazy",
    ("pandas", "DataFrame"): "pandas",
    ("pyarrow", "Table"): "pyarrow",
    ("duckdb", "DuckDBPyRelation"): "duckdb",
}
_BINDINGS = ("Partition", "Context")


class Wanted(NamedTuple):
    """An upstream that a parameter wants: asset id, window and frame as in kernel `Input`."""

    name: str
    asset: str
    window: str
    frame: str


class Binding(NamedTuple):
    """What the parameters of one function receive."""

    inputs: tuple[Wanted, ...]
    params: dict[str, Any]
    secrets: dict[str, str]
    partition: str
    context: str


def bind(
    function: Callable[..., Any],
    inputs: Mapping[str, Window],
    collector: Collector,
    place: Place,
    label: str,
) -> Binding:
    """Read a signature. Mistakes are noted in the collector, named after `label`; the result leaves
    them out."""
    wanted: list[Wanted] = []
    params: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    found = dict.fromkeys(_BINDINGS, "")
    signature = inspect.signature(function)
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            collector.note(
                "SX-PROJ-036",
                f"`{label}` has the parameter `{parameter}`, which cannot be bound by name",
                place=place,
                hint="name each input",
            )
            continue
        kind = _kind(function, parameter.annotation)
        if kind in _BINDINGS:
            if found[kind]:
                collector.note(
                    "SX-PROJ-037",
                    f"`{label}` asks for the {kind.lower()} twice: `{found[kind]}` and `{name}`",
                    place=place,
                    hint="once is enough",
                )
            found[kind] = name
        elif isinstance(parameter.default, Secret):
            secrets[name] = parameter.default.name
        elif parameter.default is not inspect.Parameter.empty and name not in inputs:
            if _is_json(parameter.default):
                params[name] = parameter.default
            else:
                collector.note(
                    "SX-PROJ-032",
                    (
                        f"the setting `{name}` of `{label}` has a default of type "
                        f"{type(parameter.default).__name__}, which cannot be tracked"
                    ),
                    place=place,
                    hint=(
                        "a setting is a number, text, true or false, None, or a list or dict of "
                        "these"
                    ),
                )
        elif kind not in FRAMES.values():
            collector.note(
                "SX-PROJ-033",
                (
                    f"the parameter `{name}` of `{label}` is annotated "
                    f"`{_text(parameter.annotation)}`, which is no frame"
                ),
                place=place,
                hint=(
                    "an input is pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.Table or a DuckDB "
                    "relation; a setting needs a default"
                ),
            )
        else:
            source = inputs.get(name, Window(f"{KIND}:{name}", ""))
            wanted.append(Wanted(name, source.asset, source.length, kind))
    for name in inputs:
        if name not in signature.parameters:
            collector.note(
                "SX-PROJ-034",
                f"`inputs` of `{label}` names `{name}`, which is no parameter",
                place=place,
                hint=near(name, signature.parameters),
            )
    note_missing_pandas(function, collector, place, label)
    return Binding(tuple(wanted), params, secrets, found["Partition"], found["Context"])


def note_missing_pandas(
    function: Callable[..., Any], collector: Collector, place: Place, label: str
) -> None:
    """Note a function whose signature names a pandas frame where pandas is not installed."""
    signature = inspect.signature(function)
    annotations = [one.annotation for one in signature.parameters.values()]
    kinds = [_kind(function, one) for one in (*annotations, signature.return_annotation)]
    if "pandas" in kinds and not extras.is_importable("pandas"):
        collector.note(
            "SX-PROJ-038",
            f"`{label}` takes or returns a pandas frame, and pandas is not installed",
            place=place,
            hint=extras.PANDAS_HINT,
        )


def frame_of(function: Callable[..., Any]) -> str:
    """Return the frame that a check's first parameter asks for; polars when it does not say."""
    parameters = list(inspect.signature(function).parameters.values())
    kind = _kind(function, parameters[0].annotation) if parameters else "polars"
    return kind if kind in FRAMES.values() else "polars"


def _kind(function: Callable[..., Any], annotation: Any) -> str:
    """Return a frame, `Partition`, `Context`, or "" for anything else."""
    if annotation is inspect.Parameter.empty:
        return "polars"
    module, name = (
        _name_of_text(function, annotation)
        if isinstance(annotation, str)
        else _name_of_type(annotation)
    )
    root = module.partition(".")[0].lstrip("_")
    if root == "sextant" and name in _BINDINGS:
        return name
    return FRAMES.get((root, name), "")


def _name_of_type(annotation: Any) -> tuple[str, str]:
    return getattr(annotation, "__module__", "") or "", getattr(annotation, "__qualname__", "")


def _name_of_text(function: Callable[..., Any], text: str) -> tuple[str, str]:
    """Resolve an annotation kept as text (`pl.DataFrame`): in the module's globals, else by the
    module's import statements, those under TYPE_CHECKING included."""
    head, _, rest = text.strip("'\" ").partition(".")
    scope = inspect.unwrap(function).__globals__
    value: Any = scope.get(head, getattr(builtins, head, None))
    for part in rest.split(".") if rest else []:
        value = getattr(value, part, None)
    if isinstance(value, type):
        return _name_of_type(value)
    target = _imports(scope.get("__name__", "")).get(head, head)
    dotted = f"{target}.{rest}" if rest else target
    module, _, name = dotted.rpartition(".")
    return module, name


def _imports(module: str) -> dict[str, str]:
    """Return what each imported name of a module stands for, as dotted text."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError):
        return {}
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name.partition(".")[0]: alias.name
                if alias.asname
                else alias.name.partition(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


def _text(annotation: Any) -> str:
    return (
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", repr(annotation))
    )
