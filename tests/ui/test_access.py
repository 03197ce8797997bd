"""What the page refuses: one test for each way to reach what it was not started with."""

from pathlib import Path
from urllib.parse import quote

import pytest

from m2svid.ui.access import Access, Refused
from tests.ui.served import served


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of films that is read, one that is written, and one of others."""
    root = tmp_path_factory.mktemp("root")
    for name in ("films", "made", "films_of_others"):
        (root / name).mkdir()
        (root / name / "a.png").write_bytes(b"picture of " + name.encode())
    (root / "films" / "link.png").symlink_to(root / "films_of_others" / "a.png")
    (root / "films" / "linked").symlink_to(root / "films_of_others")
    (root / "films" / "circle").symlink_to(root / "films" / "circle")
    (root / "films" / "page.html").write_text("<script>alert(1)</script>")
    (root / "films" / "picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return root


@pytest.fixture(scope="module")
def page(folders):
    with served(Access([folders / "films"], [folders / "made"])) as server:
        yield server


@pytest.fixture(scope="module")
def locked(folders):
    (folders / "locked").mkdir()
    with served(Access([folders / "films"], [folders / "locked"]), token="öpen sesame") as server:
        yield server


def file(path: Path | str) -> str:
    return f"/api/file?path={quote(str(path))}"


def refused(answer):
    """The sentence of a refusal."""
    assert answer.status == 403
    assert b"picture of" not in answer.body
    return answer.json["error"]


def test_a_file_of_a_folder_is_served_whole_and_in_parts(page, folders):
    for folder in ("films", "made"):
        answer = page.ask(file(folders / folder / "a.png"))
        assert (answer.status, answer.body) == (200, b"picture of " + folder.encode())
        assert answer.headers["Content-Type"] == "image/png"
    part = page.ask(file(folders / "films" / "a.png"), Range="bytes=8-9")
    assert (part.status, part.body) == (206, b"of")
    none = page.ask(file(folders / "films" / "none.png"))
    assert (none.status, "No such file" in none.json["error"]) == (400, True)
    assert page.ask("/api/file").json == {"error": "/api/file needs ?path=..."}


@pytest.mark.parametrize(
    "path",
    [
        "films_of_others/a.png",
        "films/../films_of_others/a.png",
        "films/./../films_of_others/a.png",
        "films/link.png",
        "films/linked/a.png",
        "films/linked/../../films_of_others/a.png",
        "films_of_others",
    ],
)
def test_a_path_that_leads_out_of_the_folders_is_refused(page, folders, path):
    assert "not in a folder that this page may read" in refused(page.ask(file(f"{folders}/{path}")))


def test_a_path_encoded_once_more_leads_nowhere(page, folders):
    hidden = f"{folders}/films/%2e%2e/films_of_others/a.png"
    assert "No such file" in page.ask(file(hidden)).json["error"]  # a file of that very name
    raw = f"/api/file?path={folders}/films/%2e%2e/films_of_others/a.png"
    assert "not in a folder" in refused(page.ask(raw))


@pytest.mark.parametrize("path", ["/etc/passwd", "/", "//etc/passwd", "/proc/self/environ"])
def test_a_path_elsewhere_is_refused(page, path):
    assert "not in a folder that this page may read" in refused(page.ask(file(path)))


@pytest.mark.parametrize("path", ["a.png", "../films_of_others/a.png", "", "~/a.png", "/films\0.png"])
def test_a_path_that_is_not_whole_is_refused(page, path):
    assert "is not the full path" in refused(page.ask(file(path)))


def test_links_in_a_circle_are_refused(page, folders):
    assert "can't be followed" in refused(page.ask(file(folders / "films" / "circle" / "a.png")))


@pytest.mark.parametrize("name", ["page.html", "picture.svg"])
def test_a_file_that_a_browser_could_run_is_refused(page, folders, name):
    assert "neither a film nor a picture" in refused(page.ask(file(folders / "films" / name)))


def test_what_is_read_is_not_written(folders):
    access = Access([folders / "films"], [folders / "made"])
    assert access.writable(str(folders / "made" / "new.mp4")) == folders / "made" / "new.mp4"
    (folders / "made" / "out.mp4").symlink_to(folders / "films" / "a.png")
    for path in ("films/a.png", "made/../films/new.mp4", "made/out.mp4"):
        with pytest.raises(Refused, match="may write"):
            access.writable(f"{folders}/{path}")


@pytest.mark.parametrize(
    "path", ["/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/page//etc/passwd"]
)
def test_the_pages_own_folder_is_not_left(page, path):
    assert page.ask(path).status in (403, 404)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "192.168.1.7"]
)
def test_a_name_made_to_point_here_is_refused(page, folders, host):
    """DNS rebinding: the browser takes the other site's page and this server for one."""
    answer = page.ask(file(folders / "films" / "a.png"), Host=host.format(port=page.port))
    assert "this server is not" in refused(answer)


@pytest.mark.parametrize("host", ["localhost:{port}", "[::1]:{port}", "127.0.0.1:9999"])
def test_the_names_of_this_machine_are_known_whatever_port_is_forwarded(page, host):
    assert page.ask("/", Host=host.format(port=page.port)).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost:{port}"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(page, folders, origin, method):
    answer = page.ask(file(folders / "films" / "a.png"), method, Origin=origin.format(port=page.port))
    assert "is not one of this page" in refused(answer)


def test_a_change_without_an_origin_is_refused(page):
    answer = page.ask("/api/jobs", "POST", {}, Origin="")
    assert "is not one of this page" in refused(answer)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_can_show_no_file_but_link_to_the_page(page, folders, site):
    assert "another page" in refused(page.ask(file(folders / "films" / "a.png"), Sec_Fetch_Site=site))
    assert page.ask("/", Sec_Fetch_Site=site).status == 200


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/api/file?path=/films/a.png"])
def test_no_token_or_a_wrong_one_is_refused(locked, path):
    for answer in (locked.ask(path), locked.ask(path, Cookie=f"m2svid-{locked.port}=wrong")):
        assert "token is missing or wrong" in refused(answer)
    assert "token is missing or wrong" in refused(locked.ask("/?token=wrong"))
    assert "token is missing or wrong" in refused(locked.ask("/api/file?token=%C3%B6pen%20sesame"))


def test_the_address_with_the_token_opens_all_else_by_a_cookie(locked, folders):
    answer = locked.ask("/?token=%C3%B6pen%20sesame")
    assert (answer.status, answer.headers["Location"]) == (302, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    given = {"Cookie": cookie.partition(";")[0]}
    assert locked.ask("/", **given).status == 200
    assert locked.ask(file(folders / "films" / "a.png"), **given).body == b"picture of films"
    assert "not in a folder" in refused(locked.ask(file("/etc/passwd"), **given))


def test_every_answer_keeps_a_browser_from_running_or_sharing_it(page, folders):
    for path in ("/", "/page/app.js", file(folders / "films" / "a.png"), file("/etc/passwd"), "/none"):
        headers = page.ask(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
        assert not {"script-src", "connect-src", "style-src"} & policy.keys()
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
