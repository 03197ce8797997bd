"""What the tests of the player and of the headset share: one browser."""

import pytest

from tests.ui.player_page import player_page


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the page may read."""
    return tmp_path_factory.mktemp("player")


@pytest.fixture(scope="session")
def page(folder):
    """The player in a browser; `build` makes it new."""
    with player_page(folder, (640, 480)) as opened:
        yield opened
