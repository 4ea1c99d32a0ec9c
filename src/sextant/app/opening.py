"""Imports a project where project code may run: in the loader's process and in workers. Never in
the coordinator.

Whatever goes wrong while the project's modules run becomes a ProjectError with the project's own
file and line.
"""

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path

from sextant.kernel import extras
from sextant.kernel.errors import ProjectError, SextantError
from sextant.project.assemble import assemble
from sextant.project.collect import Collector, Place, collecting


def open_project(folder: Path, root: str) -> Collector:
    """Import the project in `folder` (an unpacked bundle) and return its collector: `functions` and
    `queries` by asset id,
    `checks` by `module:qualname`. `root` is the dotted name of the author's module. ProjectError as
    `import_project`."""
    # a bundle holds its own files and no others
    sys.dont_write_bytecode = True
    collector = import_project(folder, root)
    assemble(collector)
    return collector


def import_project(folder: Path, root: str) -> Collector:
    """Import the module `root` below `folder` with a collector open. ProjectError lists everything
    that was wrong."""
    top = os.path.realpath(folder)
    _make_room(top)
    with collecting(Path(top)) as collector:
        try:
            module = importlib.import_module(root)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # project code: anything may come, SystemExit too
            _note(error, collector, root)
            collector.raise_problems()
            raise
    file = getattr(module, "__file__", None) or ""
    if not os.path.realpath(file).startswith(top + os.sep):
        hint = "give the project's module another name: Python found that one first"
        raise ProjectError(
            "SX-PROJ-063",
            f"`{root}` is `{file or 'built into Python'}`, not a module of the project",
            hint=hint,
            where="sextant.toml:1",
        )
    return collector


def _make_room(top: str) -> None:
    """Put the folder first on the path, and forget what projects have imported so far: importing
    again is what declares."""
    sys.path[:] = [
        top,
        *(
            entry
            for entry in sys.path
            if entry != top and not os.path.isfile(os.path.join(entry or ".", "sextant.toml"))
        ),
    ]
    names = {
        entry.name.removesuffix(".py")
        for entry in os.scandir(top)
        if entry.name.endswith(".py") or entry.is_dir()
    }
    for name, module in list(sys.modules.items()):
        first = name.partition(".")[0]
        if first == "sextant" or first in sys.stdlib_module_names or first == "__main__":
            continue
        places = [
            getattr(module, "__file__", None) or "",
            *(getattr(module, "__path__", None) or []),
        ]
        if (first in names or _stands_in_project(name, places[0])) and not any(
            "site-packages" in place for place in places
        ):
            del sys.modules[name]
    importlib.invalidate_caches()


def _stands_in_project(name: str, file: str) -> bool:
    """Say whether a module was imported from a folder that is a project."""
    folder = os.path.dirname(file)
    for _ in range(name.count(".") + os.path.basename(file).startswith("__init__.")):
        folder = os.path.dirname(folder)
    return bool(file) and os.path.isfile(os.path.join(folder, "sextant.toml"))


def _note(error: BaseException, collector: Collector, root: str) -> None:
    """Note why an import failed, at the innermost line of the project's own code."""
    place = _place(error, collector)
    if (
        isinstance(error, SyntaxError)
        and error.filename
        and not collector.relative(error.filename).startswith(("/", ".."))
    ):
        place = Place(error.filename, error.lineno or 1)
        line = (error.text or "").strip()
        collector.note(
            "SX-PROJ-060",
            f"syntax error: {error.msg}" + (f" in `{line}`" if line else ""),
            place=place,
            hint="the file is not Python as it stands",
        )
    elif isinstance(error, ModuleNotFoundError):
        name = error.name or ""
        if name and (root == name or root.startswith(name + ".")):
            message, hint = (
                f"there is no module `{root}` below the project's folder",
                _near_module(name, collector.root),
            )
            place = Place("sextant.toml", 1)
        else:
            message = f"there is no module `{name}`"
            hint = (
                _extra_hint(name)
                or _near_module(name, collector.root)
                or f"install what provides `{name.partition('.')[0]}` into this environment"
            )
        collector.note("SX-PROJ-061", message, place=place, hint=hint)
    elif isinstance(error, ImportError):
        known = dir(sys.modules[error.name]) if error.name in sys.modules else []
        wanted = str(error).partition("name '")[2].partition("'")[0]
        close = difflib.get_close_matches(wanted, known, n=1)
        collector.note(
            "SX-PROJ-061",
            str(error).partition(" (")[0],
            place=place,
            hint=f"did you mean `{close[0]}`?" if close else "look at what that module has",
        )
    elif isinstance(error, SextantError):
        collector.note(error.code, error.message, place=_said(error) or place, hint=error.hint)
    elif isinstance(error, SystemExit):
        collector.note(
            "SX-PROJ-062",
            "the project's module ends the process (sys.exit)",
            place=place,
            hint='put what is not a declaration under `if __name__ == "__main__":`',
        )
    else:
        text = str(error).strip().splitlines()
        message = f"importing the project raised {type(error).__name__}" + (
            f": {text[0]}" if text else ""
        )
        collector.note(
            "SX-PROJ-062",
            message,
            place=place,
            hint="project files only declare when they are imported; work belongs into functions",
        )


def _place(error: BaseException, collector: Collector) -> Place:
    """Return the innermost line of the traceback that stands in the project."""
    found = Place("sextant.toml", 1)
    for frame in traceback.extract_tb(error.__traceback__):
        if not collector.relative(frame.filename).startswith(("/", "..", "<")):
            found = Place(frame.filename, frame.lineno or 1)
    return found


def _said(error: SextantError) -> Place | None:
    file, _, line = error.where.rpartition(":")
    return Place(file, int(line)) if file and line.isdigit() else None


def _extra_hint(name: str) -> str:
    return extras.PANDAS_HINT if name == "pandas" else ""


def _near_module(name: str, root: Path) -> str:
    known = [
        path.relative_to(root)
        .as_posix()
        .removesuffix(".py")
        .removesuffix("/__init__")
        .replace("/", ".")
        for path in root.rglob("*.py")
        if ".sextant" not in path.parts
    ]
    close = (
        difflib.get_close_matches(name, known, n=1)
        or [k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    )
    return f"did you mean `{close[0]}`?" if close else ""
