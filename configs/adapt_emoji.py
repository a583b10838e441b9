r"""Emoji in one vendor's style, with labels of nine categories, and in another's, without any.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    for style in google twitter; do
      mkdir $style && tar xzf emoji-datasource-$style-16.0.0.tgz -C $style
    done
    python -c "
    import json, pathlib, shutil
    for style in ('google', 'twitter'):
        for one in json.load(open(f'{style}/package/emoji.json')):
            image = pathlib.Path(style, 'package/img', style, '64', one['image'])
            folder = pathlib.Path('runs/data', style, one['category'].replace(' ', '_'))
            if image.exists() and one['category'] != 'Component':
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(image, folder)
    "
    python -m experiments.adapt --config=configs/adapt_emoji.py --workers=2

Google's are Apache-2.0, Twitter's CC-BY-4.0. The same signs are in both, other examples of them in
each seed's splits.
"""

from configs import adapt_elpv


def get_config():
    config = adapt_elpv.get_config().unlock()
    config.size = 64
    for domain, style in (("source", "google"), ("target", "twitter")):
        folder = {"path": f"runs/data/{style}", "duplicates": "drop"}
        config.tasks[domain] = {"name": "folder", "val": 0.2, "test": 0.25, **folder}
    return config.lock()
