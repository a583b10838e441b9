"""The worker of PyTorch for language models: AWD-LSTM as fastai builds it, on `torch.nn.LSTM`, by
cuDNN on a GPU.
"""

from benchmarks import worker


def prepare(spec: dict):
    import torch

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
    model = _model(spec)
    tokens = torch.randint(9, spec["words"], (spec["batch"], spec["length"] + 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)
    step = torch.compile(model.loss) if spec["compile"] else model.loss
    states = model.begin(spec["batch"])

    def run(steps: int) -> None:
        nonlocal states
        for _ in range(steps):
            optimizer.zero_grad()
            loss, states = step(tokens, states)
            loss.backward()
            optimizer.step()
        if tokens.is_cuda:
            torch.cuda.synchronize()

    run(1)
    return run, {"torch": torch.__version__}


def _model(spec: dict):
    import torch
    from torch.nn import functional

    from tl_jax.models.awd_lstm import USUAL, VARIANTS

    class Model(torch.nn.Module):
        """Embedding, three LSTMs, decoder with the embedding's weights; all of AWD-LSTM's dropout,
        and activation regularisation.
        """

        def __init__(self, words: int, features: int, hidden: int, depth: int):
            super().__init__()
            self.embed = torch.nn.Embedding(words, features)
            self.bias = torch.nn.Parameter(torch.zeros(words))
            widths = [features, *[hidden] * (depth - 1), features]
            pairs = list(zip(widths[:-1], widths[1:], strict=True))
            self.layers = torch.nn.ModuleList(torch.nn.LSTM(*p, batch_first=True) for p in pairs)

        def begin(self, rows: int):
            """Return the states before the first token, zeros."""
            widths = [layer.hidden_size for layer in self.layers]
            return [(torch.zeros(1, rows, n), torch.zeros(1, rows, n)) for n in widths]

        def loss(self, tokens, states):
            """Return the loss of the next tokens, and the states, cut off from it."""
            table = self.embed.weight * _mask(torch.ones(len(self.bias), 1), USUAL.words)
            x, after = functional.embedding(tokens[:, :-1], table), []
            for number, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
                x = x * _mask(x[:, :1], USUAL.input if number == 0 else USUAL.hidden)
                own = dict(layer.named_parameters())
                own["weight_hh_l0"] = functional.dropout(own["weight_hh_l0"], USUAL.weights)
                x, state = torch.func.functional_call(layer, own, (x, state))
                after.append(tuple(part.detach() for part in state))
            dropped = x * _mask(x[:, :1], USUAL.output)
            logits = functional.linear(dropped, self.embed.weight, self.bias)
            nll = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            return nll + 2 * (dropped**2).mean() + (x.diff(dim=1) ** 2).mean(), after

    def _mask(like, rate: float):
        return torch.empty_like(like).bernoulli_(1 - rate) / (1 - rate)

    shape = VARIANTS[spec["base"]]
    return Model(spec["words"], shape.features, shape.hidden, shape.depth).train()


if __name__ == "__main__":
    worker.serve(prepare)
