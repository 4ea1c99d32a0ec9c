"""Secrets: resolved where a step runs, replaced wherever text leaves it. Values are never stored,
logged or sent.

A secret is looked up in the environment, then in `secrets.toml` (`NAME = "value"`, mode 0600)
beside the project's data.
"""

import base64
import contextlib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from sextant.kernel.errors import Denied, NotFound, ProjectError
from sextant.kernel.nouns import WorkOrder

FILE = "secrets.toml"
# characters: replacing shorter values would garble logs and hide nothing that cannot be guessed
_SHORTEST = 4


class LocalSecrets:
    """A `kernel.ports.Secrets` over the environment and a file. Values that were asked for are kept
    for redaction."""

    def __init__(self, file: Path, environment: Mapping[str, str] | None = None) -> None:
        self._file = file
        self._environment = os.environ if environment is None else environment

    def get(self, name: str) -> str:
        """Return the value. NotFound says how to set it; Denied when others could read the file."""
        value = self._environment.get(name)
        if value is None:
            value = self._read().get(name)
        if value is None:
            raise NotFound(
                "SX-SECRET-001",
                f"the secret `{name}` is not set",
                hint=(
                    f'set the environment variable {name}, or write `{name} = "..."` into '
                    f"{self._file}"
                ),
            )
        return value

    def _read(self) -> dict[str, str]:
        try:
            with open(self._file, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & 0o077:
                    raise Denied(
                        "SX-SECRET-002",
                        f"`{self._file}` can be read by others (mode {mode & 0o777:o})",
                        hint=f"chmod 600 {self._file}",
                    )
                values = tomllib.load(file)
        except FileNotFoundError:
            return {}
        except (
            tomllib.TOMLDecodeError,
            UnicodeDecodeError,
        ) as error:  # its text is not repeated: it may hold a value
            raise ProjectError(
                "SX-SECRET-003",
                f"`{self._file}` is not TOML",
                hint='one line each: `NAME = "value"`',
            ) from error
        bad = sorted(name for name, value in values.items() if not isinstance(value, str))
        if bad:
            raise ProjectError(
                "SX-SECRET-003",
                f"`{bad[0]}` in `{self._file}` is not text",
                hint='put the value into quotes: `NAME = "value"`',
            )
        return values


class Redactor:
    """Replaces secret values in text, also where they were encoded on the way (base64, URL, JSON),
    by `***NAME***`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        forms = {form: name for name, value in sorted(values.items()) for form in _forms(value)}
        self._forms = sorted(
            forms.items(), key=lambda pair: -len(pair[0])
        )  # the longest first: one value may hold another

    def text(self, text: str) -> str:
        """Return the text without the values."""
        for form, name in self._forms:
            if form in text:
                text = text.replace(form, f"***{name}***")
        return text

    def before_cut(self, text: str) -> str:
        """Return a text that was cut off at its end without the values, and without the beginning
        of one that the cut went through."""
        begun = self._begun(text)
        return self.text(text[: len(text) - begun]) + ("***" if begun else "")

    def after_cut(self, text: str) -> str:
        """Return a text whose beginning was cut off without the values, and without the end of one
        that the cut went through."""
        rest = max(
            (n for form, _ in self._forms for n in _ends(text, form)),
            default=0,
        )
        return ("***" if rest else "") + self.text(text[rest:])

    def split(self, text: str) -> tuple[str, str]:
        """Return the part of a growing text that no value reaches beyond, without the values, and
        the rest as it is: it belongs before what comes next."""
        begun = self._begun(text)
        moved = True
        while moved and begun < len(text):  # a value that reaches into the rest stays whole
            moved = False
            for form, _ in self._forms:
                edge = len(text) - begun
                at = text.find(form, max(0, edge - len(form) + 1), edge + len(form) - 1)
                if 0 <= at < edge < at + len(form):
                    begun, moved = len(text) - at, True
        if self._forms and begun > 4 * len(self._forms[0][0]):
            return self.before_cut(text), ""  # equal letters without end
        return self.text(text[: len(text) - begun]), text[len(text) - begun :]

    def _begun(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a value."""
        return max((n for form, _ in self._forms for n in _begins(text, form)), default=0)


def for_order(order: WorkOrder) -> LocalSecrets:
    """Return what resolves the secrets of a work order: its `SEXTANT_SECRETS` names the file."""
    return LocalSecrets(Path(order.environment.get("SEXTANT_SECRETS", FILE)))


def redactor(orders: Iterable[WorkOrder]) -> Redactor:
    """Return what replaces the values of the secrets that the steps of these orders use."""
    values: dict[str, str] = {}
    for order in orders:
        source = for_order(order)
        for name in order.asset.build.secrets.values() if order.asset.build else ():
            with contextlib.suppress(NotFound, Denied, ProjectError):  # not set: nothing to hide
                values[name] = source.get(name)
    return Redactor(values)


def _begins(text: str, form: str) -> Iterator[int]:
    """Yield the longest length at which the end of a text is a beginning of a form, if any."""
    for n in range(min(len(form) - 1, len(text)), 0, -1):
        if text.endswith(form[:n]):
            yield n
            return


def _ends(text: str, form: str) -> Iterator[int]:
    """Yield the longest length at which the beginning of a text is an end of a form, if any."""
    for n in range(min(len(form) - 1, len(text)), 0, -1):
        if text.startswith(form[-n:]):
            yield n
            return


def _forms(value: str) -> set[str]:
    """Return how a value may look in a text."""
    if len(value) < _SHORTEST:
        return set()
    data = value.encode()
    forms = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        data.hex(),
    }
    for before in range(
        3
    ):  # inside of a longer encoded text (`user:password`) it begins at one of three offsets
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + data).decode().rstrip("=")
            first = (0, 2, 3)[before]
            whole = text[first : len(text) - (1 if (before + len(data)) % 3 else 0)]
            if len(whole) >= 2 * _SHORTEST:
                forms.add(whole)
    forms.add(base64.b64encode(data).decode())
    forms.update(
        line for line in value.splitlines() if len(line) >= 3 * _SHORTEST
    )  # keys of several lines are printed line by line
    return {form for form in forms if len(form) >= _SHORTEST}
