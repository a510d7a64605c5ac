"""Texts to tokens: caps in bytes and tokens, unknown words counted."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from inference_workers.models.tokenise import Tokeniser, cut_utf8
from tests.built_models import byte_tokeniser
from tests.unit.inference_workers.stand_ins import model_folder


@pytest.fixture(scope="module")
def tokeniser():
    return Tokeniser(model_folder(), tokens_max=16, text_bytes_max=64)


def test_special_tokens_are_added(tokeniser):
    assert tokeniser.tokenise(["Red shoes", ""])[0].ids == [101, 2417, 6007, 102]
    assert tokeniser.tokenise(["", "x"])[0].ids == [101, 102]


def test_unknown_words_are_counted(tokeniser):
    [one] = tokeniser.tokenise(["🦄 shoes 🦄"])
    assert (one.unknown, one.truncated) == (2, False)


@pytest.mark.parametrize(("text", "tokens"), [("red " * 16, 16), ("é" * 40, None), ("r" * 65, None)])
def test_what_is_too_long_is_cut_and_flagged(tokeniser, text, tokens):
    [one] = tokeniser.tokenise([text])
    assert one.truncated
    assert len(one.ids) <= 16
    assert tokens is None or len(one.ids) == tokens


def test_a_cut_keeps_whole_characters():
    assert cut_utf8("aé", 2) == ("a", True)
    assert cut_utf8("aé", 3) == ("aé", False)
    assert cut_utf8("🦄🦄", 7) == ("🦄", True)
    assert cut_utf8("a" * 10, 10) == ("a" * 10, False)


def test_a_megabyte_costs_no_more_than_the_cap(tokeniser):
    [one] = tokeniser.tokenise(["red shoes " * 100_000])
    assert one.truncated


def test_a_broken_tokeniser_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"tokenizer\.json"):
        Tokeniser(tmp_path, tokens_max=16, text_bytes_max=64)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "none"}}))
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        Tokeniser(tmp_path, tokens_max=16, text_bytes_max=64)


WORDS = ["[UNK]", "it", "do", ".", "?", "!", ",", "'", "n't", "'m", "'s", "'ve", "'re", "so"]


def of_words():
    found = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return found


@pytest.mark.parametrize("make", [of_words, byte_tokeniser])
@pytest.mark.parametrize(
    "text", ["it 's , so it do n't .", "so ? it 've ! it 're it 'm", "it ' so ' do", "do . . . it", " . it"]
)
def test_generated_text_is_written_as_transformers_pipeline_writes_it(tmp_path, make, text):
    from transformers import PreTrainedTokenizerFast

    make().save(str(tmp_path / "tokenizer.json"))
    reference = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ids = reference(text)["input_ids"]
    expected = reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
    assert (expected == text) == (make is byte_tokeniser), "spaces go, but not where bytes are tokens"
    assert Tokeniser(tmp_path, tokens_max=64, text_bytes_max=999).text_of(ids) == expected


@pytest.mark.parametrize(("said", "lower"), [(True, True), (False, False), (None, False)])
def test_texts_are_put_into_lower_case_where_sentence_transformers_does(tmp_path, said, lower):
    byte_tokeniser().save(str(tmp_path / "tokenizer.json"))
    if said is not None:
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": said}))
    tokeniser = Tokeniser(tmp_path, tokens_max=64, text_bytes_max=999)
    large, small = tokeniser.tokenise(["Red ÄPFEL", "red äpfel"])
    assert (large.ids == small.ids) is lower


KNOWN = {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3, "[odd]": 4}


def of_pieces(unknown_id):
    return models.Unigram([(word, -float(number)) for word, number in KNOWN.items()], unk_id=unknown_id)


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel(KNOWN, unk_token="<unk>"),
        models.WordPiece(KNOWN, unk_token="<unk>"),
        models.BPE(KNOWN, [], unk_token="<unk>"),
        of_pieces(1),
    ],
)
@pytest.mark.parametrize("configuration", [None, {}, {"unk_token": None}])
def test_the_tokenisers_own_unknown_token_counts_where_the_configuration_names_none(tmp_path, model, configuration):
    found = Tokenizer(model)
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found.save(str(tmp_path / "tokenizer.json"))
    if configuration is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(configuration))
    [one] = Tokeniser(tmp_path, tokens_max=64, text_bytes_max=999).tokenise(["a z b y"])
    assert (one.ids, one.unknown) == ([2, 1, 3, 1], 2)


@pytest.mark.parametrize("model", [models.BPE(KNOWN, []), of_pieces(None)])
def test_a_tokeniser_without_an_unknown_token_counts_none(tmp_path, model):
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    [one] = Tokeniser(tmp_path, tokens_max=64, text_bytes_max=999).tokenise(["ab"])
    assert (one.ids, one.unknown) == ([2, 3], 0)


@pytest.mark.parametrize("said", ["[odd]", {"content": "[odd]"}])
def test_the_configurations_unknown_token_goes_before_the_tokenisers_own(tmp_path, said):
    Tokenizer(models.WordLevel(KNOWN, unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"unk_token": said}))
    tokeniser = Tokeniser(tmp_path, tokens_max=64, text_bytes_max=999)
    assert [one.unknown for one in tokeniser.tokenise(["[odd]", "z"])] == [1, 0]
