"""What the condition of a rule says, without evaluating it: which fields it reads, with which
literals it compares them, and under which verbs it can hold.

The tokens are those of CEL's specification (github.com/google/cel-spec, `doc/langdef.md`, Syntax).
The text has been compiled before; what is not understood here is passed over, never refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<space>[\t\n\f\r ]+|//[^\n]*)"
    r"|(?P<prefix>[rRbB]{0,2})(?P<quote>\"\"\"|'''|\"|')"
    r"|(?P<word>[_a-zA-Z][_a-zA-Z0-9]*)"
    r"|(?P<number>0x[0-9a-fA-F]+[uU]?|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]?)"
    r"|(?P<mark>==|!=|<=|>=|&&|\|\||[-<>!?:,.()\[\]{}+*/%])"
)
_ESCAPE = re.compile(
    r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL
)
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_ENDS = {("word", "in")} | {  # of an operand
    ("mark", text) for text in ("&&", "||", "?", ":", ",", ")", "]", "}", *_RELATIONS)
}
_MACROS = ("exists", "exists_one", "all", "filter", "map")


class Token(NamedTuple):
    """kind  word, string, bytes, number or mark; a string's text is its value, unescaped"""

    kind: str
    text: str


class Group(NamedTuple):
    """What stands between brackets, divided by its commas (and colons)."""

    bracket: str
    parts: "tuple[Node, ...]"


Operand = tuple["Token | Group", ...]


class Node(NamedTuple):
    """op        and, or, not, choice (`a ? b : c`), or a relation; "" = a value by itself
    operands  of a relation or a value: one or two
    parts     of the others
    """

    op: str
    operands: tuple[Operand, ...] = ()
    parts: "tuple[Node, ...]" = ()


class Compared(NamedTuple):
    """A field (`asset.kind`) and a literal that it is compared with."""

    field: str
    literal: str


def tokens(text: str) -> list[Token]:
    """Return the tokens of a condition. ValueError for what is no token of CEL."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"no token of CEL at character {at}")
        at = match.end()
        if match["quote"]:
            prefix, quote = match["prefix"].lower(), match["quote"]
            start, raw = at, "r" in prefix
            while not text.startswith(quote, at):
                if at >= len(text):
                    raise ValueError("a string without an end")
                at += 2 if text[at] == "\\" and not raw else 1
            body = text[start:at]
            at += len(quote)
            value = body if raw else _ESCAPE.sub(_unescaped, body)
            found.append(Token("bytes" if "b" in prefix else "string", value))
        elif match["space"] is None:
            kind = next(name for name in ("word", "number", "mark") if match[name])
            found.append(Token(kind, match[kind]))
    return found


def parse(text: str) -> Node:
    """Return what a condition says. ValueError for what is not CEL, or nested too deeply."""
    try:
        return _Parser(tokens(text)).whole()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def fields(node: Node) -> Iterator[str]:
    """Yield every field that is read, such as `asset.kind`, and `verb`."""
    for operand in _operands(node):
        yield from _paths(operand)


def bound_names(node: Node) -> Iterator[str]:
    """Yield the names that macros give to elements: `team` of `teams.exists(team, ...)`."""
    for operand in _operands(node):
        for place in range(len(operand)):
            name = _bound_by(operand, place)
            if name:
                yield name


def comparisons(node: Node, bound: Mapping[str, Operand] | None = None) -> Iterator[Compared]:
    """Yield every literal that a field is compared with, by ==, != or `in`, also inside of
    `principal.teams.exists(team, team == 'ops')`."""
    bound = bound or {}
    for part in node.parts:
        yield from comparisons(part, bound)
    for operand in node.operands:
        yield from _inside(operand, bound)
    if node.op in ("==", "!=", "in"):
        left, right = node.operands
        sides = [(left, right)] if node.op == "in" else [(left, right), (right, left)]
        for one, other in sides:
            field, literals = _path(one, bound), _literals(other, bound)
            if field and (node.op == "in" or len(other) == 1):
                yield from (Compared(field, text) for text in literals)
            elif node.op == "in" and (text := _literal(one)) is not None and _path(other, bound):
                yield Compared(_path(other, bound), text)


def possible_verbs(node: Node, verbs: frozenset[str]) -> frozenset[str]:
    """Return those of `verbs` for which the condition can hold."""
    if node.op == "and":
        for part in node.parts:
            verbs = possible_verbs(part, verbs)
        return verbs
    if node.op == "or":
        return frozenset[str]().union(*(possible_verbs(part, verbs) for part in node.parts))
    if node.op == "not":
        inner = node.parts[0]
        return verbs - possible_verbs(inner, verbs) if _only_verbs(inner) else verbs
    named = _named_verbs(node)
    if named is None:
        return verbs
    return verbs - named if node.op == "!=" else verbs & named


def read_under(node: Node, verbs: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield every field that is read, with the verbs under which its value decides something."""
    if node.op == "and":
        for place, part in enumerate(node.parts):
            left = verbs
            for other in (*node.parts[:place], *node.parts[place + 1 :]):
                left = possible_verbs(other, left)
            yield from read_under(part, left)
    elif node.parts:
        for part in node.parts:
            yield from read_under(part, verbs)
    else:
        yield from ((field, verbs) for field in fields(node))


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens, self._at = found, 0

    def whole(self) -> Node:
        node = self._choice()
        if self._at < len(self._tokens):
            raise ValueError(f"`{self._tokens[self._at].text}` is not expected")
        return node

    def _next(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("end", "")

    def _takes(self, *texts: str) -> str:
        token = self._next()
        if token.kind in ("mark", "word") and token.text in texts:
            self._at += 1
            return token.text
        return ""

    def _choice(self) -> Node:
        node = self._either()
        if not self._takes("?"):
            return node
        first = self._choice()
        self._takes(":")
        return Node("choice", parts=(node, first, self._choice()))

    def _either(self) -> Node:
        parts = [self._both()]
        while self._takes("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Node("or", parts=tuple(parts))

    def _both(self) -> Node:
        parts = [self._relation()]
        while self._takes("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else Node("and", parts=tuple(parts))

    def _relation(self) -> Node:
        left = self._operand()
        op = self._takes(*_RELATIONS)
        if op:
            node = Node(op, (left, self._operand()))
            while op := self._takes(*_RELATIONS):  # `a == b == c`
                node = Node("choice", parts=(node, Node("", (self._operand(),))))
            return node
        if len(left) == 1 and isinstance(left[0], Group) and left[0].bracket == "(":
            return left[0].parts[0] if len(left[0].parts) == 1 else Node("", (left,))
        if len(left) > 1 and left[0] == Token("mark", "!"):
            negated = 0
            while negated < len(left) and left[negated] == Token("mark", "!"):
                negated += 1
            rest = left[negated:]
            inner = Node("", (rest,))
            if len(rest) == 1 and isinstance(rest[0], Group) and len(rest[0].parts) == 1:
                inner = rest[0].parts[0]
            return Node("not", parts=(inner,)) if negated % 2 else inner
        return Node("", (left,))

    def _operand(self) -> Operand:
        out: list[Token | Group] = []
        while (token := self._next()).kind != "end":
            if token.kind == "mark" and token.text in _CLOSES:
                self._at += 1
                out.append(self._group(token.text))
            elif (
                token.kind == "mark" and token.text in ("&&", "||", "?", ":", ",", ")", "]", "}")
            ) or (token.kind in ("mark", "word") and token.text in _RELATIONS):
                break
            else:
                self._at += 1
                out.append(token)
        return tuple(out)

    def _group(self, bracket: str) -> Group:
        parts: list[Node] = []
        while not self._takes(_CLOSES[bracket]):
            if self._next().kind == "end":
                raise ValueError(f"a `{bracket}` without its end")
            before = self._at
            parts.append(self._choice())
            if not self._takes(",", ":") and self._at == before:
                raise ValueError(f"`{self._next().text}` is not expected")
        return Group(bracket, tuple(parts))


def _unescaped(match: re.Match[str]) -> str:
    two, four, eight, octal, plain = match.groups()
    digits = two or four or eight
    if digits:
        return chr(int(digits, 16))
    return chr(int(octal, 8)) if octal else _PLAIN_ESCAPES.get(plain, plain)


def _bare(operand: Operand) -> Operand:
    """Return an operand without brackets around the whole of it."""
    while len(operand) == 1 and isinstance(operand[0], Group):
        group = operand[0]
        if group.bracket != "(" or len(group.parts) != 1 or group.parts[0].op:
            break
        operand = group.parts[0].operands[0]
    return operand


def _literal(operand: Operand) -> str | None:
    operand = _bare(operand)
    if len(operand) == 1 and isinstance(operand[0], Token) and operand[0].kind == "string":
        return operand[0].text
    return None


def _literals(operand: Operand, bound: Mapping[str, Operand]) -> list[str]:
    """Return the literals that an operand is, or is a list of."""
    operand = _bare(operand)
    if len(operand) != 1:
        return []
    only = operand[0]
    if isinstance(only, Token):
        if only.kind == "word" and only.text in bound:
            return _literals(bound[only.text], {})
        return [only.text] if only.kind == "string" else []
    if only.bracket != "[":
        return []
    found = [_literal(part.operands[0]) for part in only.parts if part.op == ""]
    return [text for text in found if text is not None]


def _path(operand: Operand, bound: Mapping[str, Operand]) -> str:
    """Return the field that an operand is: `asset.kind`, also written `asset['kind']`; "" = it is
    something else."""
    operand = _bare(operand)
    names: list[str] = []
    expects_name = True
    for item in operand:
        if isinstance(item, Group):
            name = _literals((item,), {})
            if item.bracket != "[" or not names or len(name) != 1:
                return ""
            names.append(name[0])
        elif item == Token("mark", ".") and not expects_name:
            expects_name = True
        elif item.kind == "word" and expects_name:
            names.append(item.text)
            expects_name = False
        else:
            return ""
    if len(names) == 1 and names[0] in bound:
        return _path(bound[names[0]], {})
    return ".".join(names)


def _paths(operand: Operand) -> Iterator[str]:
    """Yield the fields that an operand names anywhere outside of its brackets."""
    start = 0
    while start < len(operand):
        item = operand[start]
        if not isinstance(item, Token) or item.kind != "word":
            start += 1
            continue
        end = start + 1
        while end < len(operand):
            following = operand[end]
            if (
                following == Token("mark", ".")
                or (isinstance(following, Group) and following.bracket == "[")
                or (operand[end - 1] == Token("mark", ".") and isinstance(following, Token))
            ):
                end += 1
            else:
                break
        path = _path(operand[start:end], {})
        if path:
            yield path
        start = end


def _operands(node: Node) -> Iterator[Operand]:
    for part in node.parts:
        yield from _operands(part)
    for operand in node.operands:
        yield operand
        for item in operand:
            if isinstance(item, Group):
                for part in item.parts:
                    yield from _operands(part)


def _inside(operand: Operand, bound: Mapping[str, Operand]) -> Iterator[Compared]:
    """Yield what is compared inside of an operand's brackets. `list.exists(each, ...)` and its like
    give `each` the meaning of the list."""
    for place, item in enumerate(operand):
        if isinstance(item, Group):
            name = _bound_by(operand, place)
            within = {**bound, name: operand[: place - 2]} if name else bound
            for part in item.parts:
                yield from comparisons(part, within)


def _bound_by(operand: Operand, place: int) -> str:
    """Return the name that a macro gives each element: `e` of `list.exists(e, ...)`; "" where the
    group at `place` belongs to no macro."""
    group, macro = operand[place], operand[place - 1] if place > 2 else None
    if (
        isinstance(group, Group)
        and isinstance(macro, Token)
        and macro.text in _MACROS
        and len(group.parts) > 1
        and group.parts[0].operands
    ):
        return _path(group.parts[0].operands[0], {})
    return ""


def _named_verbs(node: Node) -> frozenset[str] | None:
    """Return the verbs that a relation compares `verb` with; None for another relation."""
    if node.op not in ("==", "!=", "in"):
        return None
    left, right = node.operands
    if node.op != "in" and _path(right, {}) == "verb":
        left, right = right, left
    literals = _literals(right, {})
    of = _bare(right)
    whole = not (len(of) == 1 and isinstance(of[0], Group) and len(of[0].parts) != len(literals))
    return frozenset(literals) if _path(left, {}) == "verb" and literals and whole else None


def _only_verbs(node: Node) -> bool:
    """Say whether the verb alone decides."""
    if node.parts:
        return node.op != "choice" and all(_only_verbs(part) for part in node.parts)
    return _named_verbs(node) is not None


__all__ = [
    "Compared",
    "Node",
    "bound_names",
    "comparisons",
    "fields",
    "parse",
    "possible_verbs",
    "read_under",
]
