r"""Photographs of five kinds of things from EfficientNet-Lite 0, 1 and 2.

The images are 280 stamps of the drawing program Tux Paint, without its cartoons, as Debian has
them (GPL-2):

    apt-get download tuxpaint-stamps-default
    dpkg-deb -x tuxpaint-stamps-default_*.deb runs/data/tuxpaint
    mkdir -p runs/data/stamps
    cd runs/data/tuxpaint/usr/share/tuxpaint/stamps
    cp -r animals food household plants town ../../../../../stamps
    cd -
    find runs/data/stamps -path '*/cartoon/*' -delete
    find runs/data/stamps -type f -not -name '*.png' -delete
    python -m experiments.scenarios --config=configs/scenarios_stamps.py --workers=2
"""

from configs import scenarios_folder


def get_config():
    config = scenarios_folder.get_config().unlock()
    del config.tasks.images
    config.tasks.stamps = {"name": "folder", "path": "runs/data/stamps", "val": 0.2, "test": 0.25}
    return config.lock()
