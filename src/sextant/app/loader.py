"""The loader process, `python -m sextant.app.loader FOLDER MODULE ANSWER FILES`: imports the
project and writes what it declares.

Started by `loading` only, so that a broken or slow project never harms the coordinator. What the
project prints goes to stderr. FILES holds `Files` as JSON; ANSWER receives one `Answer` as JSON.
The exit code is 0 with a manifest, 2 with an error. Without arguments it stands by: it imports what
most projects need, and reads the arguments from stdin, as one line of JSON.
"""

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path

import msgspec

from sextant.project.loaded import Answer, Failure, Files


def stand_by() -> list[str]:
    """Import what takes time, and return the arguments; none when nobody needs them any more."""
    from sextant.kernel import registry
    from sextant.project import assemble, fingerprint  # noqa: F401

    for name in registry.names("word"):
        registry.load(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("polars")
    line = sys.stdin.buffer.readline()
    if not line:
        return []
    arguments = msgspec.json.decode(line, type=list[str])
    os.chdir(arguments[0])
    return arguments


def main(folder: str, module: str, answer: str, files: str) -> int:
    """Load, write the answer, return the exit code."""
    os.dup2(2, 1)
    # a file edited twice within a second would meet its stale bytecode
    sys.dont_write_bytecode = True
    with open(files, "rb") as listed:
        written = _load(Path(folder), module, msgspec.json.decode(listed.read(), type=Files))
    with open(answer, "wb") as file:
        file.write(msgspec.json.encode(written))
    return 2 if written.error else 0


def _load(folder: Path, module: str, files: Files) -> Answer:
    from sextant.app.opening import import_project
    from sextant.kernel.errors import SextantError
    from sextant.project.assemble import assemble
    from sextant.project.bundle import is_included
    from sextant.project.datafiles import is_data
    from sextant.project.fingerprint import Fingerprints

    try:
        collector = import_project(folder, module)
        fingerprints = Fingerprints(
            folder,
            data={path: digest for path, digest in files.bundle.items() if is_data(path)},
            included=filter(is_included, files.bundle),
            left_out=files.left_out,
        )
        return Answer(manifest=assemble(collector, fingerprint=fingerprints.of, root=module))
    except SextantError as error:
        return Answer(error=Failure(error.code, error.message, error.where, error.hint))
    except Exception as error:  # ours: a promise of the loader was broken
        traceback.print_exc()
        return Answer(
            error=Failure(
                "SX-LOAD-004",
                f"the loader failed: {type(error).__name__}: {error}",
                "",
                "please report it, with the lines above",
            )
        )


if __name__ == "__main__":
    # Hard exit: threads and handlers of the project must not keep the loader alive.
    arguments = sys.argv[1:5] or stand_by()
    code = main(*arguments) if arguments else 0
    sys.stderr.flush()
    os._exit(code)
