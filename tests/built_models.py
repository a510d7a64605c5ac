"""Tiny models of random weights, saved as Transformers saves them: one for each head and for each way to compute it."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.normalizers import Lowercase

from inference_workers.engines.placement import Placement, placement_of
from inference_workers.engines.staging import PinnedStaging
from inference_workers.models.registry import ModelFolder, find_model
from inference_workers.ports import Head, Item, Sampling
from inference_workers.spec import WorkerSettings
from infra.settings import load

VOCABULARY = 60
POSITIONS = 64
END = 2
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
WORDS = [*SPECIAL, "red", "green", "blue", "shoe", "boot", "sofa", "chair", "lamp", "table", "for", "kids", "men"]
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.4,
}
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": POSITIONS,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": END,
}
DISTIL_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.4,
}


def build(folder: Path, kind: str, *, seed: int = 0, poison: bool = False, **changed: Any) -> ModelFolder:
    """A model of the class `kind` of Transformers in a folder, with a tokeniser; `poison` makes its weights NaN."""
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, kind)(_config_of(kind, changed)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # As after training: biases and norms that are not 0 and 1, so that a missing one shows.
            if name.endswith("bias") or "norm" in name.lower() or ".ln_" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
        if poison:
            next(model.parameters()).fill_(float("nan"))
    model.save_pretrained(folder)
    tokeniser().save(str(folder / "tokenizer.json"))
    return find_model(str(folder))


def _config_of(kind: str, changed: dict[str, Any]) -> Any:
    import transformers

    if kind.startswith("CLIP"):
        text = {**SIZES, "eos_token_id": END, "bos_token_id": 1, "pad_token_id": 1}
        vision = {**SIZES, "image_size": 32, "patch_size": 8, "num_channels": 3}
        return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    if kind.startswith("Distil"):
        return transformers.DistilBertConfig(**{**DISTIL_SIZES, **changed})
    if kind.startswith("GPT2"):
        return transformers.GPT2Config(**{**GPT2_SIZES, **changed})
    family = next(one for one in ("Bert", "Roberta", "Llama", "Qwen3") if kind.startswith(one))
    if family == "Qwen3":
        changed = {"num_key_value_heads": 2, "head_dim": 16, **changed}
    return getattr(transformers, f"{family}Config")(**{**SIZES, "eos_token_id": END, **changed})


def tokeniser() -> Tokenizer:
    """Words of `WORDS` with BERT's special tokens."""
    found = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.normalizer = Lowercase()
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return found


def byte_tokeniser() -> Tokenizer:
    """Every byte a token behind BERT's special tokens, pairs with token types: nothing that is written is unknown."""
    words = {word: number for number, word in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    found = Tokenizer(models.BPE(words, []))
    found.add_special_tokens(SPECIAL)
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return found


def settings_of(**values: Any) -> WorkerSettings:
    """Settings of a worker on the CPU in float32."""
    return load(WorkerSettings, **{"device": "cpu", "dtype": "float32", **values})


def placement(head: Head = Head.VECTORS, **values: Any) -> Placement:
    """The placement of these settings."""
    return placement_of(settings_of(**values), head)


class CountedCopies:
    """The staging for CUDA with a host's memory on both sides, and how often it copied."""

    def __init__(self) -> None:
        self.copies = 0
        here = placement()
        staging = PinnedStaging(self._copy, pinned=False)
        self.placement = Placement(here.device, here.dtype, here.int8, here.compiled, staging)

    def _copy(self, host: torch.Tensor) -> torch.Tensor:
        self.copies += 1
        return host.clone()


def item(*ids: int, second: int | None = None, sampling: Sampling | None = None, **given: Any) -> Item:
    """An item of token ids."""
    return Item(ids, repr(ids).encode(), second, sampling=sampling, cost=max(1, len(ids)), **given)
