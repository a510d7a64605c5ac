import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.admission.scripts import CHARACTERS_MAX, scripts_of
from schemas.telemetry import SCRIPTS

TEXTS = {
    "red shoes": "latin",
    "Größe 42, très chic": "latin",
    "красные туфли": "cyrillic",
    "iPhone чехол прозрачный": "cyrillic",
    "κόκκινα παπούτσια": "greek",
    "נעליים אדומות": "hebrew",
    "حذاء أحمر": "arabic",
    "लाल जूते": "devanagari",
    "লাল জুতো": "bengali",
    "சிவப்பு காலணிகள்": "tamil",
    "รองเท้าสีแดง": "thai",
    "빨간 신발": "hangul",
    "あかいくつ": "kana",
    "红色鞋子": "han",
    "կարմիր կոշիկներ": "other",
    "": "",
    "42 / 7.5": "",
    "👟👟 – “42”": "",
    "\ud800": "",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_of_the_writing_system_of_most_of_its_letters(text):
    assert SCRIPTS[scripts_of([text])[0]] == TEXTS[text]


def test_texts_are_told_together_as_one_by_one_and_the_first_characters_count():
    texts = [*TEXTS, "я" * CHARACTERS_MAX + "鞋" * 2 * CHARACTERS_MAX]
    assert scripts_of(texts) == [one for text in texts for one in scripts_of([text])]
    assert SCRIPTS[scripts_of(texts)[-1]] == "cyrillic"
    assert scripts_of([]) == []


@given(st.lists(st.text(max_size=20), max_size=20))
def test_any_text_has_one_and_only_letters_count(texts):
    found = scripts_of(texts)
    assert all(0 <= one < len(SCRIPTS) for one in found)
    assert found == [one for text in texts for one in scripts_of([text])]


NAMES = {"latin": "LATIN", "cyrillic": "CYRILLIC", "greek": "GREEK", "hebrew": "HEBREW", "arabic": "ARABIC"}
NAMES |= {"devanagari": "DEVANAGARI", "bengali": "BENGALI", "tamil": "TAMIL", "thai": "THAI", "hangul": "HANGUL"}
NAMES |= {"han": "CJK UNIFIED"}


@pytest.mark.parametrize("script", NAMES)
def test_the_table_agrees_with_what_unicode_calls_its_letters(script):
    letters = [
        chr(code)
        for code in range(0x30000)
        if unicodedata.category(chr(code)).startswith("L") and unicodedata.name(chr(code), "").startswith(NAMES[script])
    ]
    found = [SCRIPTS[one] for letter in letters for one in scripts_of([letter])]
    assert found.count(script) >= 0.95 * len(letters)
