"""The worker of PyTorch: the same network, batch and layers, eager in channels-last or compiled."""

import importlib
import time

from benchmarks import worker
from benchmarks.rows import NETS


def prepare(spec: dict):
    import torch

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    tf32 = spec["precision"] == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = NETS[spec["base"]]
    library = importlib.import_module(net.library)
    model = _model(library, net).to(device, memory_format=torch.channels_last)
    if spec["precision"] == "bfloat16" and spec["train"] == "none":
        model = model.bfloat16()
    shape = (spec["batch"], 3, spec["size"], spec["size"])
    x = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    x = x.to(next(model.parameters()).dtype)
    run = (_inference if spec["train"] == "none" else _training)(model, x, spec, net)
    started = time.perf_counter()
    run(1)
    versions = {"torch": torch.__version__, net.library: library.__version__}
    return run, versions | {"compile_seconds": time.perf_counter() - started}


def _model(library, net):
    if net.library == "timm":
        return library.create_model(net.model)
    options = {"aux_logits": False, "init_weights": True} if net.model == "inception_v3" else {}
    return getattr(library.models, net.model)(weights=None, **options)


def _compiled(function, spec: dict):
    import torch

    return torch.compile(function) if spec["compile"] else function


def _inference(model, x, spec: dict, net):
    import torch

    forward = _compiled(model.eval(), spec)

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                forward(x)
        _wait(x)

    return run


def _training(model, x, spec: dict, net):
    """Return a function that runs SGD steps on `spec["train"]`; the rest is frozen, with norms."""
    import torch

    dense = [n for n, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    chosen = {"all": ("",), "last": net.peer_last, "head": dense[-1]}[spec["train"]]
    model.eval()
    for name, module in model.named_modules():
        if name.startswith(chosen):
            module.training = True
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(chosen))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-3, momentum=0.9, nesterov=True)
    targets = torch.arange(len(x), device=x.device) % 2
    forward = _compiled(model, spec)
    mixed = spec["precision"] == "bfloat16"

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed):
                loss = torch.nn.functional.cross_entropy(forward(x), targets)
            loss.backward()
            optimizer.step()
        _wait(x)

    return run


def _wait(x) -> None:
    import torch

    if x.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    worker.serve(prepare)
