"""Sentiment from one domain to another: labels of film reviews, none of product reviews.

    python -m experiments.adapt --config=configs/adapt_reviews.py --workers=2

MiniLM, whose last block learns and whose other ones run once. The texts are those of Hutto and
Gilbert (2014); another pair is --config.tasks.target.name=packaged:vader_tweets.
"""

from configs import adapt

RATE = {"tune": {"learning_rate": "log(1e-4, 1e-3)"}}
LESS = {"tune": {"learning_rate": "log(3e-5, 3e-4)"}}


def get_config():
    config = adapt.get_config().unlock()
    config.base, config.size = "minilm_l6", 32  # tokens
    for domain, name in (("source", "movies"), ("target", "products")):
        shares = {"val": 0.2, "test": 0.25, "duplicates": "drop"}
        config.tasks[domain] = {"name": f"packaged:vader_{name}", **shares}
    config.tasks.source.per_class = 500
    config.settings = {"from_layer": "block6", "batch_size": 32, "cache_dtype": "float16"}
    config.settings.tune = {"epochs": 2}
    for name in ("source_only", "target_only"):
        config.methods[name] = adapt.method("cross_entropy", RATE, plan="fine_tune_top")
    for name in ("domain_adversarial", *adapt.TOGETHER):
        config.methods[name] = adapt.method(name, RATE, plan="fine_tune_top")
    later = {"plan": "features_only", "start": "source_only"}
    for name in ("shot", "adda"):
        config.methods[name] = adapt.method(name, LESS, **later)
    norms = {"epochs": 1, "leaves": "norm[^/]*/(scale|bias)$"}
    config.methods.tent = adapt.method("tent", LESS, **later, tune=norms)
    return config.lock()
