"""Translates ClickHouse's errors for the callers of the telemetry store. Used by both backends.

Error codes are those of ClickHouse's `ErrorCodes.cpp`; both backends put `Code: N. DB::Exception:
text` into what they raise.
"""

import re

from sextant.kernel.errors import BadData, Busy, SextantError, StorageError

_CODE = re.compile(r"Code: (\d+)\. (?:DB::Exception: )?(?:Code: \d+\. DB::Exception: )?")
_TAIL = re.compile(r"\s*\(version [^)]*\)\s*")
# what a question may cost was used up, or too much is asked at once: rows, bytes, time, memory,
# simultaneous queries
_BEYOND = frozenset({158, 159, 160, 202, 241, 307, 396, 439})
# the disk, the network or the database itself, not the words of the question
_WORLD = frozenset(
    {
        3,
        32,
        33,
        40,
        74,
        75,
        76,
        88,
        95,
        107,
        198,
        209,
        210,
        226,
        227,
        228,
        236,
        242,
        243,
        246,
        252,
        271,
        279,
        319,
        354,
        473,
        499,
        516,
        999,
        1000,
    }
)
# an exception of a library that ClickHouse uses, which it passes on without a number of its own: of
# a question it speaks of its form (a value that the format does not have), of our own statements of
# the world
_FOREIGN = frozenset({1001, 1002})
REFUSED = "SX-TELEMETRY-004"
MESSAGE_CHARS_MAX = 2_000  # a parser's message can list everything it knows


def code_of(text: str) -> int:
    """Return ClickHouse's error code in a message, 0 when there is none."""
    found = _CODE.search(text)
    return int(found[1]) if found else 0


def message_of(text: str) -> str:
    """Return what ClickHouse said, without code, version and stack, cut to a readable length."""
    return _TAIL.sub("", _CODE.sub("", text.partition(", Stack trace")[0], count=1)).strip()[
        :MESSAGE_CHARS_MAX
    ]


def of_question(text: str) -> SextantError:
    """Return the error of a question that ClickHouse did not answer: Busy beyond limits,
    StorageError, else BadData."""
    code, message = code_of(text), message_of(text)
    if code in _BEYOND:
        return Busy(
            "SX-TELEMETRY-002",
            f"the query was stopped: {message}",
            hint="ask for less: a shorter time range, fewer rows, or a LIMIT",
            retry_after_s=1.0,
        )
    if code in _WORLD:
        return StorageError(
            "SX-TELEMETRY-003",
            f"the telemetry store could not answer: {message}",
            hint="check the disk and the store: sextant doctor",
        )
    return BadData(
        "SX-TELEMETRY-001",
        f"the query is not right: {message}",
        hint="the SQL is ClickHouse's; see the tables with: SHOW TABLES FROM obs",
    )


def of_writing(text: str, what: str) -> StorageError:
    """Return the error of a statement or an insert of ours that failed; `REFUSED` when trying again
    will not help."""
    code = code_of(text)
    if code in _WORLD or code in _BEYOND or code in _FOREIGN:
        return StorageError(
            "SX-TELEMETRY-003",
            f"the telemetry store could not take {what}: {message_of(text)}",
            hint="check the disk and the store: sextant doctor",
        )
    return StorageError(
        REFUSED,
        f"the telemetry store refused {what}: {message_of(text)}",
        hint="nothing was added; this is a defect of Sextant or of the schema: report it",
    )
