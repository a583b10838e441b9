"""The worker of PyTorch for SimCLR: the same network, projector and loss, eager or compiled."""

from benchmarks import worker

HIDDEN, WIDTH, TEMPERATURE = 2048, 256, 0.2  # as in tl_jax.train.objectives.simclr


def prepare(spec: dict):
    import torch
    import torchvision

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    trunk = getattr(torchvision.models, spec["base"])(weights=None)
    features, trunk.fc = trunk.fc.in_features, torch.nn.Identity()
    model = torch.nn.Sequential(
        trunk,
        torch.nn.Linear(features, HIDDEN, bias=False),
        torch.nn.BatchNorm1d(HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, WIDTH),
    ).to(memory_format=torch.channels_last)
    shape = (spec["batch"], 3, spec["size"], spec["size"])
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)
    forward = torch.compile(model) if spec["compile"] else model

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            _nt_xent(forward(torch.cat([_flipped(x), _flipped(x)]))).backward()
            optimizer.step()

    run(1)
    return run, {"torch": torch.__version__, "torchvision": torchvision.__version__}


def _flipped(x):
    """Each of the images mirrored, or not."""
    import torch

    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)


def _nt_xent(embeddings):
    """Chen et al. 2020, equation 1, of both views' embeddings (2 B, D)."""
    import torch
    import torch.nn.functional as F

    z, count = F.normalize(embeddings), len(embeddings)
    logits = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(count, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(count).roll(count // 2))


if __name__ == "__main__":
    worker.serve(prepare)
