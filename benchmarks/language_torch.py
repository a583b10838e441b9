"""The worker of PyTorch for texts: transformers' BERT of the same size, eager or compiled."""

from benchmarks import worker


def prepare(spec: dict):
    import torch
    import transformers

    from tl_jax.models.bert import VARIANTS

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    size = VARIANTS[spec["base"]]
    config = transformers.BertConfig(
        vocab_size=size.words,
        hidden_size=size.features,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.features,
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    tokens = torch.randint(1000, 20_000, (spec["batch"], spec["length"]))
    mask = torch.ones_like(tokens)
    run = (_inference if spec["train"] == "none" else _training)(model, tokens, mask, spec)
    run(1)
    return run, {"torch": torch.__version__, "transformers": transformers.__version__}


def _mean(model, tokens, mask):
    """The mean of the tokens' vectors, as Sentence-BERT's pooling has it."""
    found = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(found.dtype)
    return (found * weights).sum(1) / weights.sum(1)


def _compiled(function, spec: dict):
    import torch

    return torch.compile(function) if spec["compile"] else function


def _inference(model, tokens, mask, spec: dict):
    import torch

    model.eval()
    forward = _compiled(lambda tokens: _mean(model, tokens, mask), spec)

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                forward(tokens)

    return run


def _training(model, tokens, mask, spec: dict):
    """Return a function that runs SGD steps on all layers, dropout included."""
    import torch

    model.train()
    head = torch.nn.Linear(model.config.hidden_size, 2)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, 1e-3, momentum=0.9, nesterov=True)
    targets = torch.arange(len(tokens)) % 2
    forward = _compiled(lambda tokens: head(_mean(model, tokens, mask)), spec)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(tokens), targets).backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    worker.serve(prepare)
