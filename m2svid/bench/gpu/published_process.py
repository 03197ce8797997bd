"""Run the published implementation on a clip, in a process of its own: `python published_process.py JOB`.

Nothing of this project is imported here: the published code's package has the same name, and its environment
may be another. JOB is a JSON file, see `published.py`; a file with figures and the right view comes back.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG = "configs/m2svid.yaml"


def main(job: dict[str, Any]) -> None:
    checkout = Path(job["checkout"])
    parts = (checkout / "third_party").glob("*")
    wanted = [part for part in parts if part.name.startswith("Hi3D") or "msssim" in part.name.lower()]
    sys.path[:1] = [str(checkout), *map(str, sorted(wanted))]  # in place of this file's folder

    import sgm  # noqa: F401 (first, so that a lack of it is told at once)
    import torch

    cuda = job["device"].startswith("cuda")
    if cuda:
        torch.cuda.set_device(job["device"])
    else:  # the published code asks for a GPU in many places
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self
        torch.Tensor.half = torch.Tensor.float
        torch.nn.Module.half = torch.nn.Module.float
    # no noise on the conditioning, so that results can be compared
    torch.randn_like = torch.zeros_like
    model = load(checkout, job)
    model = model.to(job["device"]).half().eval()
    clip = torch.load(job["clip"])
    batch = {name: value.to(job["device"]) for name, value in clip.items()} | {"caption": [""]}

    def predict() -> Any:
        with torch.inference_mode():
            return model.generate(dict(batch))["generated-video"][0]

    for _ in range(2):
        view = predict()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(job["repeats"]):
        begin = time.perf_counter()
        view = predict().cpu()  # waits for the GPU
        times.append(time.perf_counter() - begin)
    figures = {
        "seconds": sorted(times)[len(times) // 2],
        "least": min(times),
        "most": max(times),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0,
        "torch": str(torch.__version__),
        "xformers": "xformers" in sys.modules,
    }
    torch.save({"view": view.float(), "figures": figures}, job["result"])


def load(checkout: Path, job: Mapping[str, Any]) -> Any:
    """The published model with the job's weights and sizes."""
    import sgm.modules.autoencoding.lpips.loss.lpips as perceptual
    import torch
    from omegaconf import OmegaConf
    from sgm.util import instantiate_from_config

    perceptual.LPIPS = torch.nn.Identity  # a metric that would download its weights
    config = OmegaConf.load(checkout / CONFIG)
    params = config.model.params
    params.loss_fn_config = None
    params.sampler_config.params.device = job["device"]
    for place, value in job["sizes"].items():
        OmegaConf.update(params, place, value)
    embedders = params.conditioner_config.params.emb_models
    embedders[0].params.open_clip_embedding_config.params.version = None  # all weights come from the file
    if job["clip_model"]:
        import open_clip

        open_clip.add_model_config(job["clip_model"])
        embedders[0].params.open_clip_embedding_config.params.arch = Path(job["clip_model"]).stem
    if "xformers" not in sys.modules:  # PyTorch's own attention calculates the same
        params.network_config.params.spatial_transformer_attn_type = "softmax"
        for embedder in (embedders[3], embedders[5]):
            embedder.params.encoder_config.params.ddconfig.attn_type = "vanilla"
    model = instantiate_from_config(config.model)
    model.init_from_ckpt(job["weights"])
    return model


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
