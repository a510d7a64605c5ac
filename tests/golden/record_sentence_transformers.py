"""Writes `sentence_transformers.json`: what that library gives for odd and ordinary texts with the default model.

Not a test: the library is no dependency of the project. Run it where it is installed beside the project's packages:

    python -m tests.golden.record_sentence_transformers
"""

import base64
import importlib
import json
from pathlib import Path

import numpy as np

from tests.parts import default_model

PATH = Path(__file__).with_name("sentence_transformers.json")
TEXTS = {
    "short": "red shoes",
    "empty": "",
    "blanks": " \t\n ",
    "emoji": "👟 👩‍👩‍👧‍👦 red",
    "unknown": "🦄",
    "mixed scripts": "red 鞋子 обувь أحذية รองเท้า",
    "composed and decomposed": "café cafe\u0301 ﬁne",
    "control characters": "red\x00 \x07shoes \u200b\u202e\ufeff now",
    "German": "ein bequemes Sofa für das Wohnzimmer",
    "punctuation": "women's boots (38/39), 100% leather!?",
    "one long word": "x" * 300,
    "more than 512 tokens": " ".join(["a long description of a very comfortable armchair"] * 80),
}


def main() -> None:
    """Encode one by one in float32 on the CPU, so that nothing depends on a batch."""
    library = importlib.import_module("sentence_transformers")
    model = library.SentenceTransformer(str(default_model().path), device="cpu", local_files_only=True)
    found = {}
    for name, text in TEXTS.items():
        vector = np.asarray(model.encode([text], normalize_embeddings=True)[0], dtype="<f4")
        found[name] = base64.b64encode(vector.tobytes()).decode()
    told = {"sentence_transformers": library.__version__, "texts": TEXTS, "vectors": found}
    PATH.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
