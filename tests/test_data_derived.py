"""Labels from annotations, as google-research/task_adaptation has them, and tasks joined."""

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

import tl_jax
from tl_jax.data.tasks.derived import LABELS
from tl_jax.errors import UserError


def nearest(*distances):
    return {"pixel_coords": [(0.0, 0.0, distance) for distance in distances]}


def vehicles(*pairs):
    """Objects of KITTI, each a type and how far ahead it is."""
    ahead = np.array([(0.0, 0.0, distance) for _, distance in pairs], np.float32).reshape(-1, 3)
    return {"type": [kind for kind, _ in pairs], "location": ahead}


@pytest.mark.parametrize(
    ("label", "annotations", "number"),
    [
        ("clevr_count", {"size": [0] * 3}, 0),
        ("clevr_count", {"size": [0] * 10}, 7),
        ("clevr_distance", nearest(9.0, 7.9), 0),
        ("clevr_distance", nearest(8.0), 0),  # on an edge: the lower class
        ("clevr_distance", nearest(8.1, 12.0), 1),
        ("clevr_distance", nearest(9.6), 4),
        ("clevr_distance", nearest(10.5, 11.0), 5),
        ("kitti_distance", vehicles((0, 7.5), (2, 40.0)), 0),
        ("kitti_distance", vehicles((4, 3.0), (1, 19.0)), 1),  # 4 is no vehicle
        ("kitti_distance", vehicles((2, 21.0)), 2),
        ("kitti_distance", vehicles((3, 5.0)), 3),
        ("kitti_distance", vehicles(), 3),
        ("dsprites_location", 0, 0),
        ("dsprites_location", 31, 15),
        ("dsprites_orientation", 2, 0),  # 2.5 orientations a group
        ("dsprites_orientation", 3, 1),
        ("dsprites_orientation", 39, 15),
    ],
)
def test_the_class_that_annotations_give(label, annotations, number):
    derived = LABELS[label]
    assert derived.number(annotations) == number
    assert 0 <= number < len(derived.classes)


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Grey images with as many objects as their number says, 3 to 10, as CLEVR has them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        objects = {
            "size": tfds.features.ClassLabel(names=["small", "large"]),
            "pixel_coords": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        }
        features = {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "objects": tfds.features.Sequence(objects),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(32):
            count = 3 + i % 8
            found = [{"size": 0, "pixel_coords": (0.0, 0.0, count + 1.0)} for _ in range(count)]
            image = PIL.Image.new("RGB", (4, 4), (i, 0, count))  # arrays need TensorFlow
            yield i, {"image": image, "objects": found}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    top = tmp_path_factory.mktemp("tfds")
    Scenes(data_dir=top, file_format="array_record").download_and_prepare()
    return top


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("clevr_count", lambda count: count - 3),
        ("clevr_distance", lambda count: {8: 2, 9: 4, 10: 5}.get(count, 0)),  # 9.0, 10.0, 11.0
    ],
)
def test_a_dataset_without_classes_of_its_own_gets_them(data_dir, label, number):
    splits = {"train": "train[:50%]", "val": "train[50%:75%]", "test": "train[75%:]"}
    task = tl_jax.load_task("tfds:scenes", data_dir=data_dir, label=label, splits=splits)
    assert task.classes == LABELS[label].classes
    counts = [task.open(i).getpixel((0, 0))[2] for i in range(len(task.ids))]
    assert task.labels.tolist() == [number(count) for count in counts]


def folder_of(top, name, colours):
    """A task of two classes: images of one colour each."""
    for kind in ("one", "other"):
        (top / name / kind).mkdir(parents=True)
        for i, colour in enumerate(colours):
            image = PIL.Image.new("RGB", (4, 4), (colour, i, kind == "one"))
            image.save(top / name / kind / f"{i}.png")
    return top / name


def test_joined_tasks_are_classes(tmp_path):
    dogs = folder_of(tmp_path, "dogs", range(100, 110))
    flowers = folder_of(tmp_path, "flowers", range(200, 220))
    task = tl_jax.load_task(f"joined:{dogs}+{flowers}", seed=1, val=0.2, test=0.2)
    assert task.classes == ("dogs", "flowers") and len(task.ids) == len(set(task.ids)) == 60
    for split, counts in (("train", (12, 24)), ("val", (4, 8)), ("test", (4, 8))):
        rows = task.splits[split]
        assert tuple(np.bincount(task.labels[rows])) == counts
        seen = [task.image(int(i)).getpixel((0, 0))[0] >= 200 for i in rows]
        assert seen == (task.labels[rows] == 1).tolist()
    few = tl_jax.load_task(f"joined:{dogs}+{flowers}", seed=1, per_class=5)
    assert np.bincount(few.labels[few.splits["train"]]).tolist() == [5, 5]


@pytest.mark.parametrize("tasks", ["digits", "digits+", "digits+digits"])
def test_joined_takes_two_tasks_or_more(tasks):
    with pytest.raises(UserError, match="joined takes two or more tasks, as in 'one.other'; got"):
        tl_jax.load_task(f"joined:{tasks}")
