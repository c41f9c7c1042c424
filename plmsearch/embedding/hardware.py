"""What the models would run on."""

from __future__ import annotations

import torch

from plmsearch.embedding._torch import precision_name, resolve_device, resolve_precision

__all__ = ["hardware"]


def hardware() -> dict[str, str]:
    """Return torch's version, threads, devices, and what ``auto`` means on this machine."""
    device = resolve_device("auto")
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(n_cuda)]
    return {
        "torch": str(torch.__version__),
        "torch threads": str(torch.get_num_threads()),
        "GPUs": ", ".join(gpus) or "none",
        "--device auto": str(device),
        "--precision auto": precision_name(resolve_precision("auto", device)),
        "bfloat16 on the CPU": "fast" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "emulated: slow",
    }
