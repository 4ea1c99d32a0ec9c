"""Finds entries by words, as somebody types them. Pure, in memory; `app/search.py` fills it.

The texts of all entries stand in a few long strings, which are scanned from the front: entries
stand in the order in which equally good ones are shown, so a scan ends as soon as it has enough.
"""

import bisect
import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sextant.kernel.limits import SEARCH_NEAR_MAX

_SEPARATORS = re.compile(r"[\W_]+")
_NEAR_LETTERS = 4  # shorter words are near to half of everything
_NEAR_RATIO = 0.7  # of letters in common: two letters swapped in a word of seven are 0.86
_SNIPPET = 120  # characters of a long text that are shown around what was found
# What matched, the best first.
EXACT, PREFIX, WORD, INFIX, FIELD, FIELD_INFIX, NEAR = range(7)


class Entry(NamedTuple):
    """One thing that can be found.

    noun    asset, check, team, policy or environment
    asset   the asset that it belongs to, "" = none
    fields  (name of the field, its text), beside the name
    """

    noun: str
    id: str
    name: str
    title: str = ""
    asset: str = ""
    fields: tuple[tuple[str, str], ...] = ()


class Match(NamedTuple):
    """An entry that was found: how well, in which field, and what of that."""

    rank: int
    entry: Entry
    field: str
    text: str


class _Prepared(NamedTuple):
    """The texts of an entry, ready to be scanned: its id and name, the words of its name, and those
    of its name and fields."""

    head: str
    name: str
    whole: str


class _Scanned:
    """Texts of entries in one string."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._starts: list[int] = []
        at = 0
        for text in texts:
            self._starts.append(at)
            at += len(text) + 1
        self._text = "\n".join(texts)

    def find(self, part: str) -> Iterator[int]:
        """Yield the places of the texts that hold a part, each once, in order."""
        at = self._text.find(part)
        while at >= 0:
            place = bisect.bisect_right(self._starts, at) - 1
            yield place
            if place + 1 >= len(self._starts):
                return
            at = self._text.find(part, self._starts[place + 1])


def words_of(text: str) -> list[str]:
    """Return the words of a text, as they are compared."""
    return [word for word in _SEPARATORS.split(text.casefold()) if word]


def _spaced(text: str) -> str:
    """Return the words of a text, each behind a space."""
    return "".join(f" {word}" for word in words_of(text))


def prepare(entry: Entry) -> _Prepared:
    """Return what is scanned of an entry: work that is done once for each."""
    name = _spaced(entry.name)
    whole = name + "".join(f" |{_spaced(text)}" for _, text in entry.fields)
    head = f"{entry.id.casefold()}\n{entry.name.casefold()}"
    return _Prepared(head, name, whole)


class TextIndex:
    """Entries, in the order in which equally good ones are shown. Any thread: it never changes."""

    def __init__(self, entries: Sequence[tuple[Entry, _Prepared]]) -> None:
        self._entries = [entry for entry, _ in entries]
        self._prepared = [prepared for _, prepared in entries]
        # the ends of lines mark where ids and names begin and end
        self._heads = _Scanned([f"\n{one.head}\n" for one in self._prepared])
        self._names = _Scanned([one.name for one in self._prepared])
        self._wholes = _Scanned([one.whole for one in self._prepared])

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, query: str, limit: int) -> list[Match]:
        """Return up to `limit` entries that have all words of a query, the best first; near
        spellings of a name where there are fewer."""
        words, typed = words_of(query), query.strip().casefold()
        if not words or limit < 1:
            return []
        found: dict[int, int] = {}
        for rank, places in self._scans(words, typed):
            for place in places:
                found.setdefault(place, rank)
                if len(found) >= limit:
                    return self._matches(found, words)
        for place in self._near(words):
            found.setdefault(place, NEAR)
            if len(found) >= limit:
                break
        return self._matches(found, words)

    def _scans(self, words: list[str], typed: str) -> Iterator[tuple[int, Iterator[int]]]:
        """Yield each way to match, the best first, and the places that it finds."""
        starts = [f" {word}" for word in words]
        yield EXACT, self._heads.find(f"\n{typed}\n")
        yield PREFIX, self._heads.find(f"\n{typed}")
        yield WORD, self._having(self._names, starts, lambda one: one.name)
        yield INFIX, self._having(self._names, words, lambda one: one.name)
        yield FIELD, self._having(self._wholes, starts, lambda one: one.whole)
        yield FIELD_INFIX, self._having(self._wholes, words, lambda one: one.whole)

    def _having(
        self, scanned: _Scanned, parts: list[str], text_of: Callable[[_Prepared], str]
    ) -> Iterator[int]:
        """Yield the places whose text has all parts: scanned for the longest one."""
        longest = max(parts, key=len)
        others = [part for part in parts if part is not longest]
        for place in scanned.find(longest):
            if not others or all(part in text_of(self._prepared[place]) for part in others):
                yield place

    def _near(self, words: list[str]) -> list[int]:
        """Return the places of names that are spelled nearly so, the nearest first."""
        typed = " ".join(words)
        if len(typed) < _NEAR_LETTERS:
            return []
        padded = f" {typed}"
        hits: Counter[int] = Counter()
        for at in range(len(padded) - 2):
            places = self._names.find(padded[at : at + 3])
            for _, place in zip(range(SEARCH_NEAR_MAX), places, strict=False):
                hits[place] += 1
        near = []
        for place, _ in hits.most_common(SEARCH_NEAR_MAX // 20):
            ratio = difflib.SequenceMatcher(None, typed, self._prepared[place].name[1:]).ratio()
            if ratio >= _NEAR_RATIO:
                near.append((-ratio, place))
        return [place for _, place in sorted(near)]

    def _matches(self, found: dict[int, int], words: list[str]) -> list[Match]:
        return [
            Match(rank, self._entries[place], *self._where(place, rank, words))
            for place, rank in found.items()
        ]

    def _where(self, place: int, rank: int, words: list[str]) -> tuple[str, str]:
        """Return the field in which an entry matched, and its text there."""
        entry = self._entries[place]
        if rank in (FIELD, FIELD_INFIX):
            longest = max(words, key=len)
            parts = [f" {longest}", longest] if rank == FIELD else [longest]
            for part in parts:
                for name, text in entry.fields:
                    if part in _spaced(text):
                        return name, _snippet(text, longest)
        return ("near name" if rank == NEAR else "name"), entry.name


def _snippet(text: str, word: str) -> str:
    """Return a long text around a word, as one line."""
    line = " ".join(text.split())
    if len(line) <= _SNIPPET:
        return line
    at = max(0, line.casefold().find(word) - _SNIPPET // 2)
    cut = line[at : at + _SNIPPET]
    return f"{'...' if at else ''}{cut}{'...' if at + _SNIPPET < len(line) else ''}"
