import pytest

from infra.embedded.clickhouse_tokens import read_tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a -- b\nc # d\ne #!f\ng // h\ni #j", ["a", "c", "e", "g", "i", "#", "j"]),
        (b"a /* b /* c */ d */ e /* f", ["a", "e"]),
        (b"a 'b\\' c''d' e \"f\\\" g\" h `i``j` k", ["a", "'b\\' c''d'", "e", '"f\\" g"', "h", "`i``j`", "k"]),
        ("a ‘b ' c’ d “e” f".encode(), ["a", "‘b ' c’", "d", "“e”", "f"]),
        (b"a $$ b ' $$ c $x$ $$ d $x$ e", ["a", "$$ b ' $$", "c", "$x$ $$ d $x$", "e"]),
        # Not closed, so no quotes: a word with dollars, or a dollar.
        (b"a $x$$$ b $$ 'c' $ d", ["a", "$x$$$", "b", "$", "$", "'c'", "$", "d"]),
        ("a\u00a0b\u3000c\ufeff\x00d".encode(), ["a", "b", "c", "d"]),
        (b"x'4a' 1.5e3 a.b", ["x", "'4a'", "1.5e3", "a", ".", "b"]),
    ],
)
def test_comments_quotes_and_words_are_cut_as_the_engine_cuts_them(text, words):
    assert [token.text.decode() for token in read_tokens(text)] == words


def test_brackets_have_the_depth_of_what_is_around_them():
    assert [(t.text, t.depth) for t in read_tokens(b"a (b [c] ) )d")] == [
        (b"a", 0),
        (b"(", 0),
        (b"b", 1),
        (b"[", 1),
        (b"c", 2),
        (b"]", 1),
        (b")", 0),
        (b")", 0),
        (b"d", 0),
    ]


@pytest.mark.parametrize("part", [b"$%d$ ", b"/* %d ", b"' %d\\' ", b"$$$%d "])
def test_what_is_never_closed_takes_linear_time(part):
    text = b"".join(part % number for number in range(100_000))
    assert sum(1 for _ in read_tokens(text)) <= 400_000
