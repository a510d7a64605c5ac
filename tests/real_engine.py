"""The engine of real models for tests of loading: the worker's own."""

from inference_workers.device import device_facts
from inference_workers.loading import Outside
from inference_workers.ports import Forward, Head
from infra.clock import SystemClock
from tests.tiny_models import TinyEngine


def real_outside():
    """Torch on this machine."""
    try:
        from inference_workers.engines import load_engine
    except ImportError:
        load_engine = load_plain_bert
    return Outside(device_facts, load_engine, SystemClock())


def load_plain_bert(settings, model):
    """A plain BERT's mean of tokens, where the package of engines is not there yet."""
    import torch
    from safetensors import safe_open

    from inference_workers.bert import BertEncoder

    torch.set_num_threads(settings.torch_threads)
    dtype = device_facts(settings).dtype
    weights = {}
    for path in model.weights:
        with safe_open(path, framework="pt") as file:
            weights.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    encoder = BertEncoder(model.config, weights, device="cpu", dtype=getattr(torch, dtype))

    class Engine:
        head = Head.VECTORS

        def compute(self, items):
            with torch.inference_mode():
                states, tokens = encoder.encode([item.ids for item in items])
                means = torch.stack([one.float().mean(0) for one in states.split([len(item.ids) for item in items])])
                norms = means.norm(dim=1)
                return Forward((means / norms[:, None]).numpy(), norms.numpy(), tokens)

        def close(self):
            pass

    return TinyEngine(Engine(), description=f"cpu test {dtype}")
