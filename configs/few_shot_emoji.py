r"""Kinds of emoji from a few of each: 20 kinds that no training has seen, from ImageNet's features.

The drawings are 52 kinds (subcategories of 13 drawings or more) in the style of Google:

    npm pack emoji-datasource-google@16.0.0
    tar xzf emoji-datasource-google-16.0.0.tgz
    python -c "
    import collections, json, pathlib, shutil
    kinds = collections.defaultdict(list)
    for one in json.load(open('package/emoji.json')):
        image = pathlib.Path('package/img/google/64', one['image'])
        if image.exists() and one['category'] != 'Component':
            kinds[one['subcategory']].append(image)
    for name, images in kinds.items():
        folder = pathlib.Path('runs/data/emoji_kinds', name.replace(' ', '_'))
        for image in images if len(images) >= 13 else ():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)
    "
    python -m experiments.few_shot --config=configs/few_shot_emoji.py

Two bases go on from ImageNet on the other 32 kinds: with a classifier, and on episodes. With one
shot, L2N on `pool` has 53.4 ± 1.1 % from ImageNet and 60.2 ± 1.1 after going on with a classifier;
after episodes 55.5, the mean of 52.4, 59.4 and 54.7 in three trainings (2026-11-29, jax 0.10.2;
docs/beyond/few_labels.md says more).

Cost: about 6 minutes of CPU time.
"""

from configs import few_shot

NOVEL = (
    *("animal-bug", "animal-mammal", "av-symbol", "book-paper", "computer", "drink", "event"),
    *("face-concerned", "food-fruit", "food-sweet", "game", "heart", "keycap", "mail", "office"),
    *("person-gesture", "place-building", "sport", "transport-air", "zodiac"),
)
BASE = (
    *("alphanum", "animal-bird", "animal-marine", "arrow", "body-parts", "clothing"),
    *("country-flag", "emotion", "face-neutral-skeptical", "face-smiling", "family"),
    *("food-asian", "food-prepared", "food-vegetable", "geometric", "household"),
    *("light_&_video", "other-symbol", "person", "person-activity", "person-fantasy"),
    *("person-role", "person-sport", "place-other", "plant-other", "religion", "sky_&_weather"),
    *("time", "tool", "transport-ground", "transport-sign", "warning"),
)


def get_config():
    config = few_shot.get_config().unlock()
    config.weights = "pip:efficientnet-lite0"
    config.size, config.crop = 64, 1.0
    config.task.path = "runs/data/emoji_kinds"
    config.base_classes, config.novel_classes = BASE, NOVEL
    tune = {"epochs": 15, "learning_rate": 1e-3, "best_by": "last"}
    config.settings = {"plan": "fine_tune_top", "from_layer": "stage6_block1", "tune": tune}
    config.settings.batch_size = 192
    config.trainings = {
        "ImageNet": {},
        "then classes": {"head": "linear"},
        "then episodes": {
            "objective": "prototypes(shots=3)",
            "tune": {"sampling": "balanced"},
        },
    }
    config.layers = ("stage3_block2", "stage5_block3", "stage6_block4", "pool")
    config.methods = ("nearest_mean", "l2n", "cl2n", "linear", "cosine")
    config.queries = 8
    return config.lock()
