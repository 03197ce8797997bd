"""The core installs without extras: everything can be imported, and a missing extra is one sentence."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from m2svid.depth.files import DepthFile
from m2svid.errors import UserError
from m2svid.video.read import Video
from m2svid.video.shots import survey
from tests.convert.films import make_film

ROOT = Path(__file__).parents[1]
# Distribution -> the package that it installs, where the names differ.
PACKAGES = {"scenedetect-headless": "scenedetect", "jupyter": "notebook"}

IMPORT_ALL = """
import importlib, pathlib, sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # as if it were not installed
for root in ("m2svid", "data_prep"):
    for path in sorted(pathlib.Path(root).rglob("*.py")):
        if path.name != "__main__.py":
            importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""


def optional_packages() -> list[str]:
    """Packages of all extras but the tests' own."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = [line for extra in extras if extra != "test" for line in extras[extra].split()]
    names = [re.match(r"[\w-]+", line)[0] for line in lines if re.match(r"[\w-]+[><=]|[\w-]+$", line)]
    return [PACKAGES.get(name, name) for name in names]


def test_every_module_can_be_imported_without_any_extra():
    optional = optional_packages()
    assert {"scenedetect", "OpenEXR", "s3fs"} <= set(optional)
    command = [sys.executable, "-c", IMPORT_ALL, *optional]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_one_sentence_with_the_command_that_installs_it(tmp_path, monkeypatch):
    film = tmp_path / "film.mp4"
    make_film(film, frames=4)
    for name in ("scenedetect", "OpenEXR"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'm2svid\[convert\]'.*--cuts false"):
        survey(Video(film))
    assert len(survey(Video(film), find_cuts=False).shots) == 1

    (tmp_path / "depth.exr").touch()
    with pytest.raises(UserError, match=r"depth.exr needs another package: pip install 'm2svid\[convert\]'"):
        DepthFile(tmp_path / "depth.exr")
