r"""A style of emoji that no training has seen: judge runs on Google's and Twitter's by OpenMoji's.

The folders of configs/adapt_emoji.py; google_and_twitter holds the images of both. OpenMoji's are
CC BY-SA 4.0, of the npm package openmoji, drawn by librsvg:

    npm pack openmoji@17.0.0 && tar xzf openmoji-17.0.0.tgz
    python -c "
    import json, pathlib, subprocess
    for one in json.load(open('google/package/emoji.json')):
        named = one['unified'], one['non_qualified'], one['unified'].replace('-FE0F', '')
        files = (pathlib.Path(f'package/color/svg/{name}.svg') for name in named)
        drawing = next(filter(pathlib.Path.exists, files), None)
        folder = pathlib.Path('runs/data/openmoji', one['category'].replace(' ', '_'))
        if drawing and one['category'] != 'Component' and one['has_img_google']:
            folder.mkdir(parents=True, exist_ok=True)
            image = str(folder / f'{drawing.stem}.png')
            subprocess.run(['rsvg-convert', '-w64', '-h64', str(drawing), '-o', image], check=True)
    "
    python -m experiments.transfer --config=configs/folder.py --config.plan=full --config.size=64 \
        --config.tune.batch_norm=batch --config.tune.learning_rate=1e-3 --config.tune.epochs=8 \
        --config.tune.best_by=last --config.task.duplicates=drop \
        --config.task.path=runs/data/google --workdir=runs/google
    python -m experiments.judge --config=configs/emoji_styles.py --runs=runs/google

The same for twitter, and for google_and_twitter with --config.tune.epochs=4, which are as many
steps; docs/beyond/adaptation.md has seeds 0, 1 and 2 (--config.seed).
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.tasks = ml_collections.ConfigDict()
    openmoji = {"name": "folder", "path": "runs/data/openmoji", "val": 0.1, "test": 0.8}
    config.tasks.openmoji = {**openmoji, "duplicates": "drop"}
    return config.lock()
