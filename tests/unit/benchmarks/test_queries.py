from benchmarks.queries import LONG_WORDS_MAX, SHORT_WORDS_MAX, Queries, real_queries, texts_of_random_length


def test_where_the_full_data_is_absent_the_sample_does(monkeypatch, tmp_path):
    monkeypatch.setenv("INFERWATCH_DATA", str(tmp_path))
    found = real_queries()
    assert "sample" in found.source
    assert len(found.texts) > 100


def test_the_full_data_is_used_where_it_is(data, monkeypatch):
    monkeypatch.setenv("INFERWATCH_DATA", str(data))
    assert len(real_queries().texts) > 3_000


def test_a_seed_chooses_the_same_texts():
    queries = Queries(("red shoes", "blue hat", "sofa"), "test")
    assert queries.choose(50, 1) == queries.choose(50, 1) != queries.choose(50, 2)


def test_random_lengths_are_mostly_short_and_sometimes_long():
    lengths = [len(text.split()) for text in texts_of_random_length(["shoe", "hat"], 20_000, 1)]
    long = [length for length in lengths if length > SHORT_WORDS_MAX]
    assert min(lengths) == 1
    assert 100 < len(long) < 300
    assert max(lengths) <= LONG_WORDS_MAX
