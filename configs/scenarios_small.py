r"""Drawings of nine kinds of things, and digits, from EfficientNet-Lite0: two tasks unlike photos.

The drawings are 1,906 emoji of 64 pixels in the style of Google (Apache-2.0), as npm has them:

    npm pack emoji-datasource-google@16.0.0
    tar xzf emoji-datasource-google-16.0.0.tgz
    python -c "
    import json, pathlib, shutil
    for one in json.load(open('package/emoji.json')):
        image = pathlib.Path('package/img/google/64', one['image'])
        folder = pathlib.Path('runs/data/emoji', one['category'].replace(' ', '_'))
        if image.exists() and one['category'] != 'Component':
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)
    "
    python -m experiments.scenarios --config=configs/scenarios_small.py --workers=2
"""

from configs import scenarios_folder


def get_config():
    config = scenarios_folder.get_config().unlock()
    del config.tasks.images, config.bases.lite1, config.bases.lite2
    config.tasks.emoji = {"name": "folder", "path": "runs/data/emoji", "val": 0.2, "test": 0.25}
    config.tasks.digits = {"name": "digits", "val": 0.2, "test": 0.25}
    config.budgets = (5, 20)
    return config.lock()
