"""Which data files of a project a function reads, told from the texts in its code. Pure.

A file counts when a text names it (`seeds/x.csv`, `x.csv`, a query over it), and, of code that
reads files, when a text names its folder (`seeds`), a pattern (`*.csv`) or its ending (`.csv`, as
in an f-string). Rather one too many than one too few: a file that counts and is not read only makes
more stale.
"""

import fnmatch
import os
import re
from collections.abc import Iterable

# Names by which code reads files.
READS = frozenset({
    "open", "read_text", "read_bytes", "read_csv", "read_csv_batched", "read_parquet", "read_json",
    "read_ndjson", "read_excel", "read_ods", "read_feather", "read_ipc", "read_table", "read_fwf",
    "read_xml", "read_pickle", "read_orc", "read_avro", "scan_csv", "scan_parquet", "scan_ndjson",
    "scan_ipc", "genfromtxt", "loadtxt", "glob", "iglob", "rglob", "iterdir", "listdir", "scandir",
})  # fmt: skip
_CODE = (".py", ".pyi", ".sql")
_SETTINGS = "sextant.toml"
_PATHS = re.compile(r"[^\s'\"(),;=<>|]+")  # what may be a path within a longer text


def is_data(path: str) -> bool:
    """Say whether a file of the bundle is neither code nor the platform's settings."""
    return not path.endswith(_CODE) and path != _SETTINGS


def not_in_bundle(path: str) -> str:
    """Return what is said of a file of the project's folder that steps do not see."""
    folder, slash, name = path.rpartition("/")
    pattern = f"{folder}/*{os.path.splitext(name)[1]}" if slash else name
    return (
        f'`{path}` is not in the bundle that steps see: `include = ["{pattern}"]` in sextant.toml'
    )


class DataFiles:
    """Files below a project's folder, found by what code says of them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = sorted(paths)
        self._by_name: dict[str, list[str]] = {}
        self._by_folder: dict[str, list[str]] = {}  # by each folder's name above a file
        for path in self._paths:
            *folders, name = path.split("/")
            self._by_name.setdefault(name, []).append(path)
            for folder in set(folders):
                self._by_folder.setdefault(folder, []).append(path)

    def read_by(self, texts: Iterable[str], *, reads: bool) -> tuple[str, ...]:
        """Return the files that code with these texts reads, sorted.

        texts  the constants of the code
        reads  whether it names something that reads files
        """
        found: set[str] = set()
        for word in {word for text in texts for word in (text, *_PATHS.findall(text))}:
            clean = word.strip().removeprefix("./").rstrip("/")
            folders, _, name = clean.rpartition("/")
            found.update(_below(folders, self._by_name.get(name, ())))
            if not reads or not clean:
                continue
            if any(sign in clean for sign in "*?["):
                matching = [path for path in self._paths if _fits(path, name)]
                found.update(_below(folders, matching))
            elif name.startswith("."):
                found.update(path for path in self._paths if path.endswith(name))
            else:
                found.update(
                    path for path in self._by_folder.get(name, ()) if f"/{clean}/" in f"/{path}"
                )
        return tuple(sorted(found))


def _fits(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern)


def _below(folders: str, paths: Iterable[str]) -> Iterable[str]:
    """Return those of some paths that lie in the folders that were named with them; all, where
    those are no folders of the project, but patterns, or parts of a path made at run time."""
    exact = [path for path in paths if f"/{path}".rpartition("/")[0].endswith(f"/{folders}")]
    return exact if folders and exact else paths
