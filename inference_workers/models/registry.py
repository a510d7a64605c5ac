"""Finds a model (folder, package, hub) and says what is in it: weights, digest, limits, pooling. Reads no weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from inference_workers.models.file_hashes import digest_of
from inference_workers.models.files import FILES_MAX, PICKLES, below, read_json, read_object, refuse_unsafe, weights_of
from inference_workers.models.verdicts import ModelRefused, Refusal, refuse
from inference_workers.ports import Head, Similarity

TOKENS_FALLBACK = 512
"""Longest input where no file of the model says one."""
TOKENS_UNREAL = 10_000_000
"""Tokenisers without a limit say 10^30."""
POSITIONS_AFTER_PADDING = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer", "xmod"}
)
"""Architectures whose first position comes after the padding token's: 514 positions are 512 tokens."""

HELD_SUFFIXES = PICKLES | {".safetensors", ".zip"}
"""Endings of what may be a model in a package that has no `model` folder."""


class Pooling(StrEnum):
    """How token vectors become one vector."""

    MEAN = "mean_tokens"
    CLS = "cls_token"
    MAX = "max_tokens"
    MEAN_SQRT = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean_tokens"
    LAST = "lasttoken"


POOLING_FLAG = "pooling_mode_"
"""What a flag's name begins with; the rest is the pooling's. So before sentence-transformers 6."""
POOLING_MODES = {
    "mean": Pooling.MEAN,
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "mean_sqrt_len_tokens": Pooling.MEAN_SQRT,
    "weightedmean": Pooling.WEIGHTED_MEAN,
    "lasttoken": Pooling.LAST,
}
"""What `pooling_mode` calls them, since sentence-transformers 6."""
SENTENCE = "sentence_embedding"
"""What sentence-transformers calls the one vector that comes of a text."""
SENTENCE_FILE = "config_sentence_transformers.json"
"""Where it says how its vectors are compared, and what is put before a text."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk. `head` is what it gives; `tokens_max` counts special tokens too; `digest` is the SHA-256 of the
    weights. `similarity` is how its vectors are compared.

    `source` is what it was asked for by: a path, a package, or `org/name@commit`.
    """

    path: Path
    weights: tuple[Path, ...]
    config: Mapping[str, Any]
    head: Head
    tokens_max: int
    pooling: Pooling
    normalise: bool
    similarity: Similarity = Similarity.COSINE
    source: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over the weight files in name order, hexadecimal. Takes about 0.1 s per 100 MB the first time."""
        return digest_of(self.weights)


def find_model(name: str, *, revision: str | None = None, offline: bool = False) -> ModelFolder:
    """The model that a folder's path, a package's name or a hub id with its commit means. May fetch, then blocks.

    Raises ModelRefused when there is none, when it would run code, or when it cannot be served.
    """
    path, source = _folder_of(name, revision, offline)
    weights = weights_of(path, source)
    refuse_unsafe(path, source)
    config = read_object(path / "config.json", source)
    if not isinstance(config.get("model_type"), str):
        why = "its config.json is missing or names no model_type"
        raise refuse(Refusal.UNSUPPORTED, source, why, "name the folder of a Transformers model")
    pooling, normalise = _modules_of(path, source)
    _refuse_prompt(path, source)
    # A generator or classifier that was saved with a pooling was made an embedder; its architecture's name stayed.
    head = head_of(config) if pooling is None else Head.VECTORS
    return ModelFolder(
        path,
        weights,
        config,
        head,
        _tokens_max(path, config, source),
        pooling or Pooling.MEAN,
        normalise,
        _similarity_of(path, source, normalise=normalise) if head is Head.VECTORS else Similarity.COSINE,
        source,
    )


def head_of(config: Mapping[str, Any]) -> Head:
    """What a model gives by its architecture's name, in its configuration; see `ModelFolder.head` for what it is."""
    said = config.get("architectures")
    names = said if isinstance(said, list) else []
    if any(str(name).endswith("ForSequenceClassification") for name in names):
        return Head.LOGITS
    if any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return Head.TOKENS
    return Head.VECTORS


def _folder_of(name: str, revision: str | None, offline: bool) -> tuple[Path, str]:
    """The folder, and what the model is called in messages."""
    if revision is not None:
        # Only a hub id has a commit: a folder of the same name must not be taken for it.
        return _fetched(name, revision, offline)
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve(), name
    if name.isidentifier():
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec is not None else []
        for root in roots:
            if (root / "model").is_dir():
                return root / "model", name
        if roots:
            raise _no_model_folder(name, roots)
    from inference_workers.models.hub import REPOSITORY

    if REPOSITORY.fullmatch(name):
        return _fetched(name, None, offline)
    raise refuse(
        Refusal.NOT_FOUND,
        name,
        "it is neither a folder nor an installed package with a `model` folder nor a hub id org/name",
        "run `make setup`, which installs the default model; or name an existing folder with config.json, "
        "tokenizer.json and *.safetensors",
    )


def _no_model_folder(name: str, roots: Sequence[Path]) -> ModelRefused:
    """The error for a package that has its model elsewhere, or makes or fetches it by code of its own."""
    held = (path for root in roots for path in islice(root.rglob("*"), FILES_MAX) if path.suffix in HELD_SUFFIXES)
    found = sorted(held)[:3]
    why = f"the package {name} has no `model` folder, and no code of a package is run"
    if found:
        why += f"; it holds {', '.join(path.name for path in found)}"
        way_out = _way_out(found[0])
    else:
        way_out = "have the package's own code write its model into a folder, and name that folder"
    return refuse(Refusal.NOT_FOUND, name, why, f"{way_out}; or serve another model")


def _way_out(held: Path) -> str:
    """What to do with a file of a package that may be its model."""
    if held.suffix == ".safetensors":
        return f"name the folder {held.parent}"
    if held.suffix == ".zip":
        return f"unpack {held} (`python -m zipfile -e`) into a folder, and name that folder"
    return "save its model with `save_pretrained(..., safe_serialization=True)`, and name that folder"


def _fetched(name: str, revision: str | None, offline: bool) -> tuple[Path, str]:
    from inference_workers.models.hub import REPOSITORY, fetch

    if not REPOSITORY.fullmatch(name):
        why = f"it has revision {str(revision)[:12]}, and is no hub id org/name"
        raise refuse(Refusal.NOT_FOUND, name, why, "name a hub id; or leave the revision out")
    return fetch(name, revision, offline=offline).resolve(), f"{name}@{revision}"


def _modules_of(path: Path, source: str) -> tuple[Pooling | None, bool]:
    """Pooling and normalising as `modules.json` and its folders say; None and False where they do not say it."""
    pooling: Pooling | None = None
    normalise = False
    for module in read_json(path / "modules.json", source) or []:
        kind = str(module.get("type", "")).rpartition(".")[2]
        said = read_object(below(path, str(module.get("path", "")), source) / "config.json", source)
        if kind == "Pooling":
            pooling = _pooling_of(said, source)
        elif kind == "Normalize":
            what = said.get("module_input_name", SENTENCE)
            if what != SENTENCE:
                why = f"its module Normalize is for {str(what)[:100]}"
                raise refuse(Refusal.UNSUPPORTED, source, why, f"use a model that normalises its {SENTENCE}")
            normalise = True
        elif kind != "Transformer":
            why = f"its module {kind} is not known"
            raise refuse(Refusal.UNSUPPORTED, source, why, "use a model of Transformer, Pooling, Normalize")
    return pooling, normalise


def _refuse_prompt(path: Path, source: str) -> None:
    """Raise ModelRefused where sentence-transformers would put a text before each input by itself."""
    said = read_object(path / SENTENCE_FILE, source)
    prompts, default = said.get("prompts"), said.get("default_prompt_name")
    if isinstance(prompts, Mapping) and prompts.get(default):
        why = f"its default_prompt_name {default!r} asks for a text before each input, which is not served"
        ways_out = "set it to null, and have requests begin with that text; or serve another model"
        raise refuse(Refusal.UNSUPPORTED, source, why, ways_out)


def _similarity_of(path: Path, source: str, *, normalise: bool) -> Similarity:
    """How sentence-transformers' `similarity` compares the model's vectors: by cosine where its files say nothing."""
    said = read_object(path / SENTENCE_FILE, source).get("similarity_fn_name")
    if said is not None and said not in list(Similarity):
        why = f"{SENTENCE_FILE} says similarity_fn_name {str(said)[:100]!r}, and vectors are compared by "
        ways_out = "set it to one of these, or to null for cosine; or serve another model"
        raise refuse(Refusal.UNSUPPORTED, source, why + ", ".join(Similarity), ways_out)
    found = Similarity.COSINE if said is None else Similarity(said)
    # Of vectors of length 1 the dot product is the cosine, which telemetry can read.
    return Similarity.COSINE if found is Similarity.DOT and normalise else found


def _pooling_of(said: Mapping[str, Any], source: str) -> Pooling:
    """By a Pooling module's configuration: `pooling_mode` since sentence-transformers 6, a flag for each before."""
    modes = said.get("pooling_mode")
    if modes is None:
        flags = {key.removeprefix(POOLING_FLAG): value for key, value in said.items() if key.startswith(POOLING_FLAG)}
        chosen = [name for name, value in flags.items() if value is True] or [Pooling.MEAN.value]
    else:
        named = [str(name) for name in (modes if isinstance(modes, list) else [modes])]
        chosen = [POOLING_MODES.get(name, name) for name in named]
    if len(chosen) != 1 or chosen[0] not in set(Pooling):
        known = ", ".join(Pooling)
        raise refuse(
            Refusal.UNSUPPORTED, source, f"pooling {sorted(chosen)} is not known", f"use a model with one of: {known}"
        )
    return Pooling(chosen[0])


def _tokens_max(path: Path, config: Mapping[str, Any], source: str) -> int:
    said = read_object(path / "sentence_bert_config.json", source).get("max_seq_length")
    tokeniser = read_object(path / "tokenizer_config.json", source).get("model_max_length")
    positions = config.get("max_position_embeddings", config.get("n_positions"))
    text = config.get("text_config")
    if positions is None and isinstance(text, Mapping):  # a model of texts and images says it for its texts
        positions = text.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in POSITIONS_AFTER_PADDING:
        padding = config.get("pad_token_id")
        positions -= (padding if isinstance(padding, int) else 1) + 1
    limits = [int(one) for one in (said, tokeniser, positions) if isinstance(one, int) and 0 < one < TOKENS_UNREAL]
    return min(limits, default=TOKENS_FALLBACK)
