"""Removes guards one by one and demands that a test notices: `python bench/mutation.py [NAME ...]`.

Each guard is a line of `src` without which two processes, or a moment between two writes, do harm,
and the test that must fail when it is not there. The sources are copied for each guard; the
checkout stays as it is. Prints one JSON line for each guard and exits with 1 when one can be
removed unseen.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "bench", "pyproject.toml")
TIMEOUT_S = 300.0
_PASSED, _FAILED = 0, 1  # pytest's exit codes; others mean that the test could not be run


class Guard(NamedTuple):
    """A guard, how it is removed, and the test that must fail then."""

    name: str
    file: str  # below src/sextant
    text: str  # stands there exactly once
    without: str
    test: str  # pytest's node id below tests


GUARDS = (
    Guard(
        "what a run writes is fenced by its own lease",
        "engine/leases.py",
        "Write(write.statements, write.events, self._fence)",
        "Write(write.statements, write.events)",
        "engine/test_leases.py::test_a_lost_lease_is_not_taken_back",
    ),
    Guard(
        "a lease is renewed by its fence",
        "stores/state/statements.sql",
        "-- name: lease_renew\nUPDATE lease SET expires_at = ? WHERE name = ? AND holder = ? AND "
        "fence = ?",
        "-- name: lease_renew\nUPDATE lease SET expires_at = ? WHERE name = ? AND holder = ? AND "
        "0 < ?",
        "engine/test_leases.py::test_an_earlier_hold_by_the_same_process_is_not_renewed",
    ),
    Guard(
        "a lease that is held is not taken",
        "stores/state/statements.sql",
        "expires_at = excluded.expires_at WHERE lease.expires_at < ?",
        "expires_at = excluded.expires_at WHERE lease.holder = excluded.holder OR "
        "lease.expires_at < ?",
        "engine/test_run_crashes.py::test_two_threads_of_one_process_do_not_resume_one_run",
    ),
    Guard(
        "a publish holds the leases of its tables",
        "app/execution.py",
        "guards=(*leases.guards(), same),",
        "guards=(same,),",
        "engine/test_run_crashes.py::test_a_table_whose_lease_is_lost_before_the_publish",
    ),
    Guard(
        "a publish goes into the environment that it began in",
        "app/execution.py",
        "guards=(*leases.guards(), same),",
        "guards=(*leases.guards(),),",
        "engine/test_run_failures.py"
        "::test_a_run_does_not_publish_into_an_environment_that_was_dropped",
    ),
    Guard(
        "a crashed run of a dropped environment is cancelled",
        "app/resuming.py",
        "if facts.started_at < created:",
        "if False:",
        "engine/test_run_failures.py"
        "::test_a_run_that_was_cut_off_in_a_dropped_environment_is_cancelled",
    ),
    Guard(
        "audits of whole tables come before their readers",
        "engine/work.py",
        "deps=(*step.deps, *audits),",
        "deps=step.deps,",
        "engine/test_reviewed.py::test_what_the_whole_tables_checks_refuse_is_not_read",
    ),
    Guard(
        "what was withdrawn while it was read is not published",
        "app/execution.py",
        '"withdrawn_live",\n                (env, table.asset,',
        '"withdrawn_live",\n                ("", table.asset,',
        "engine/test_withdrawn_meanwhile.py::test_an_input_that_is_withdrawn_while_it_is_read",
    ),
    Guard(
        "what was derived again while it was read is not published",
        "app/execution.py",
        '"tainted_live",\n                (table.asset,',
        '"tainted_live",\n                ("",',
        "engine/test_withdrawn_meanwhile.py::test_an_input_that_is_derived_again_while_it_is_read",
    ),
    Guard(
        "a source is held by its content",
        "engine/holds.py",
        "(not is_source(asset) or part.digest in contents)",
        "True",
        "engine/test_undone_sources.py::test_a_mended_source_is_read_again",
    ),
    Guard(
        "what reads inputs is held by code and inputs",
        "engine/work.py",
        "if key in self.held and not again:",
        "if False:",
        "engine/test_runs.py::test_held_partitions_do_not_come_back_through_the_memo",
    ),
    Guard(
        "an undo takes back what was live when it was given",
        "app/runs.py",
        "        def prepare() -> Prepared:\n            prepared = self.undoing.prepare(",
        "        def prepare() -> Prepared:\n"
        "            bad, target = self.undoing.target(env, asset_id, version)\n"
        "            prepared = self.undoing.prepare(",
        "platform/test_side_by_side.py::test_a_rollback_undoes_what_was_live_when_it_was_given",
    ),
    Guard(
        "rules are told what moves",
        "app/permits.py",
        "**moving.get(move.asset, NOTHING_MOVED).facts(),",
        "",
        "engine/test_rule_facts.py::test_a_release_of_a_version_that_exists_has_the_facts",
    ),
    Guard(
        "a rule names what there is",
        "authorization/decide.py",
        "if field not in values or literal in names or not literal:",
        "if True:",
        "release/test_rule_names.py::test_a_misspelt_value_is_refused_with_a_near_one",
    ),
    Guard(
        "every text is checked",
        "app/texts.py",
        "if name in rules and value:",
        "if False:",
        "platform/test_texts_sent.py::test_a_link_leads_to_a_web_page",
    ),
    Guard(
        "signing out carries the CSRF token",
        "server/api/authentication.py",
        "if grant is not None and not signs_in:",
        "if grant is not None and path not in _OPEN:",
        "server/test_api.py::test_a_session_needs_its_csrf_token",
    ),
    Guard(
        "a range limits what is named",
        "engine/plan.py",
        "if key not in asked_for and not runs:",
        "if False:",
        "engine/test_plan.py::test_a_range_limits_what_is_named_and_its_readers_follow",
    ),
    Guard(
        "a file is published with the partitions that it is staged for",
        "kinds/dataset/made.py",
        "partitions=tuple(name for name in file.partitions if name in names)",
        "partitions=file.partitions",
        "engine/test_undone_sources.py::test_a_mended_source_is_read_again",
    ),
    Guard(
        "a pointer moves only from where it was read",
        "release/releases.py",
        "(move.env, move.asset, move.source),\n                    1,",
        "(move.env, move.asset, move.source),\n                    None,",
        "release/test_releases.py::test_a_pointer_that_moved_meanwhile",
    ),
    Guard(
        "what is judged bad is withdrawn",
        "release/rolling.py",
        'if withdraw and release.intent == "release":',
        "if False:",
        "release/test_releases.py::test_what_is_judged_bad_is_undone_and_stays_away",
    ),
    Guard(
        "a driver writes only under its lease",
        "release/driver.py",
        "held = self._releases.under(leases.guards())",
        "held = self._releases",
        "release/test_releases.py::test_a_driver_that_slept_while_another_only_looked",
    ),
    Guard(
        "what a kind raises stays with its release",
        "release/rolling.py",
        "            answer = _understood(kind.roll(release, fence), release)\n        except Exception as error:",
        "            answer = _understood(kind.roll(release, fence), release)\n        except SextantError as error:",
        "release/test_releases.py::test_what_a_kind_raises_is_tried_again",
    ),
    Guard(
        "an incident is changed as it was read",
        "app/incidents.py",
        "Write(tuple(one.unchanged for one in changed), tuple(events))",
        "Write((), tuple(events))",
        "platform/test_incidents.py::test_two_people_at_once",
    ),
    Guard(
        "who broke the glass does not close the incident of its signal",
        "app/incidents.py",
        "filter(None, (breaker(core, one.signal, by) for one in signals))",
        "()",
        "platform/test_incidents.py::test_who_broke_the_glass_does_not_close_its_incident",
    ),
    Guard(
        "a checkpoint follows the one in front of it",
        "ledger/checkpoint.py",
        'Statement("checkpoint_last_is", (before,), 1, "another process signed"),',
        "",
        "ledger/test_checkpoints_together.py::test_a_lost_race_is_signed_again",
    ),
    Guard(
        "a table that cannot be written fails alone",
        "release/publish.py",
        "if unwritten and wanted.whole:",
        "if unwritten:",
        "engine/test_run_failures.py::test_a_table_that_cannot_be_written_fails_alone",
    ),
)


def copy(target: Path) -> None:
    """Copy what tests need into a folder."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                target / name,
                ignore=shutil.ignore_patterns("__pycache__", "*.tar.gz", "*.egg-info"),
            )
        else:
            shutil.copy(ROOT / name, target / name)


def removed(guard: Guard, source: str) -> str:
    """Return a source without the guard. LookupError when its text is not there exactly once."""
    if source.count(guard.text) != 1:
        raise LookupError(
            f"{guard.name}: the guard's text stands {source.count(guard.text)} times in "
            f"{guard.file}, not once"
        )
    return source.replace(guard.text, guard.without)


def run_tests(folder: Path, tests: Sequence[str]) -> int:
    """Run tests of a copy on the copy's sources and return pytest's exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--tb=no", *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=sys.stderr,
        timeout=TIMEOUT_S * len(tests),
        check=False,
    )
    return done.returncode


def notices(guard: Guard) -> bool:
    """Tell whether the guard's test fails without it. RuntimeError when it cannot be run."""
    with tempfile.TemporaryDirectory(prefix="sextant-mutation-") as folder:
        copy(Path(folder))
        file = Path(folder) / "src" / "sextant" / guard.file
        file.write_text(removed(guard, file.read_text()))
        code = run_tests(Path(folder), [guard.test])
    if code not in (_PASSED, _FAILED):
        raise RuntimeError(f"{guard.name}: pytest ended with {code}")
    return code == _FAILED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only guards whose names contain one of these")
    wanted = parser.parse_args().names
    chosen = [g for g in GUARDS if not wanted or any(word in g.name for word in wanted)]
    with tempfile.TemporaryDirectory(prefix="sextant-mutation-") as folder:
        copy(Path(folder))
        if run_tests(Path(folder), sorted({guard.test for guard in chosen})) != _PASSED:
            print("the tests do not pass with every guard in place", file=sys.stderr)
            return 1
    unseen = 0
    for guard in chosen:
        seen = notices(guard)
        unseen += not seen
        facts = {"bench": "mutation", "guard": guard.name, "test": guard.test, "noticed": seen}
        print(json.dumps(facts), flush=True)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
