"""Tells the FORMAT clause of a ClickHouse statement from a column or a table named `format`."""

from __future__ import annotations

from infra.embedded.clickhouse_tokens import Token

# After these words stands an operand or a name, unless the word is one itself (ORDER BY database, table).
_BEFORE_OPERAND = frozenset(
    b"after and as between by case column constraint database describe dictionary distinct div else except exists from "
    b"having ilike in index intersect interval into join key like limit mod not offset on or over partition prewhere "
    b"projection qualify regexp sample select set step table temporary then to union use using values view when where "
    b"with".split()
)
# Of those, the words that are no operand where one is expected.
_PREFIXES = frozenset(b"case distinct exists interval not select".split())


def expects_operand(before: bool, token: Token, previous: Token | None) -> bool:
    """Whether after `token` an operand or a name must stand. `before` is the answer for the place of `token` itself."""
    if token.kind == "sign":
        if token.text in b")]}":
            return False
        # Where an operand stands, "*" is all columns, else it multiplies.
        return not (before and token.text == b"*")
    if token.kind != "word":
        return False
    word = token.text.lower()
    if previous is not None and (previous.is_sign(b".") or previous.is_word(b"as")):
        # A name, whatever it reads like; but AS SELECT begins a query.
        return word in (b"select", b"with") and not previous.is_sign(b".")
    return word in (_PREFIXES if before else _BEFORE_OPERAND)


class FormatClause:
    """Sees the tokens of a statement one by one; at the end, `name` is its format, or None.

    The clause is FORMAT where no operand can stand, a name, and then nothing but SETTINGS.
    """

    def __init__(self) -> None:
        self._after_format = False
        self._in_settings = False
        self._name: str | None = None
        self.just_named = False

    @property
    def name(self) -> str | None:
        return self._name

    def see(self, token: Token, operand: bool) -> None:
        """Takes the next token; `operand` says whether its place expects an operand."""
        name = _plain_name(token) if self._after_format else None
        self.just_named = False
        if token.is_word(b"format") and not operand:
            self._after_format, self._in_settings, self._name = True, False, None
        elif name is not None:
            self._after_format, self._name, self.just_named = False, name, True
        else:
            self._after_format = False
            if token.is_word(b"settings"):
                self._in_settings = True
            elif not self._in_settings and not token.is_sign(b";"):
                self._name = None


def _plain_name(token: Token) -> str | None:
    text = token.text[1:-1] if token.kind == "quoted" and token.text[:1] in (b'"', b"`") else token.text
    if token.kind not in ("word", "quoted") or not text.replace(b"_", b"a").isalnum() or not text.isascii():
        return None
    return text.decode("ascii")
