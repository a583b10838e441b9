"""`python -m tl_jax`: what is here."""

import importlib.metadata
import pathlib

import jax
import pytest

import tl_jax
from tl_jax import __main__ as here

ROOT = pathlib.Path(tl_jax.__file__).parent.parent


def sections(printed: str) -> dict[str, list[str]]:
    """The lines of each section, by the first word of its title."""
    parts = [part.splitlines() for part in printed.strip().split("\n\n")]
    return {part[0].split(":")[0]: [line.strip() for line in part[1:]] for part in parts}


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    """What is printed where the caches hold 3 MB and nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".cache" / "deeper").mkdir(parents=True)
    (tmp_path / ".cache" / "deeper" / "data").write_bytes(b"1" * 3_000_000)
    monkeypatch.setenv("TL_JAX_HOME", str(tmp_path / "home"))
    assert here.main([]) == 0
    return sections(capsys.readouterr().out)


def test_it_shows_programs_versions_devices_and_caches(shown, tmp_path):
    assert list(shown) == ["programs", "versions", "devices", "caches"]
    versions = dict(line.split() for line in shown["versions"])
    assert versions["jax"] == importlib.metadata.version("jax") and "tl_jax" in versions
    assert len(shown["devices"]) == len(jax.devices())
    (used, unit, cache), empty = (line.split() for line in shown["caches"])
    assert (round(float(used)), unit, cache) == (3, "MB", str(tmp_path / ".cache"))
    assert empty == ["empty", str(tmp_path / "home")]


def test_each_program_is_there_with_the_first_line_of_its_help(shown):
    lines = dict(line.split(maxsplit=1) for line in shown["programs"])
    sources = {path.stem: path.read_text() for path in (ROOT / "experiments").glob("*.py")}
    assert lines.keys() == {n for n, source in sources.items() if "    cli.run(" in source}
    assert all(sources[name].startswith(f'"""{line}\n') for name, line in lines.items())


def test_without_a_checkout_it_says_where_the_programs_are(tmp_path):
    said = " ".join(here.programs(tmp_path))
    assert "come with a checkout" in said and "tl_jax.transfer" in said


def test_arguments_and_missing_devices_are_one_line(capsys, monkeypatch):
    assert here.main(["transfer"]) == 2
    assert capsys.readouterr().err == "error: unexpected argument 'transfer': there are none\n"

    def no_device():
        raise RuntimeError("Unable to initialize backend 'tpu':\nmore")

    monkeypatch.setattr(jax, "devices", no_device)
    assert here.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: JAX has no device (Unable") and len(error.splitlines()) == 1
