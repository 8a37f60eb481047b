"""The page in a real Chromium: photos in, pictures out, errors, languages, narrow screens, keys.

It runs where Debian's `chromium` and the package `playwright` are; .ci/run installs both.
"""

import base64
import io
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CHELSEA, COFFEE, encoded, predict
from tests.server import running

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="apt-get install chromium"),
]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SHOWN = ".result img:not([hidden])"


@pytest.fixture(scope="module")
def address():
    with running("--max-megabytes", 1) as server:
        yield server.address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page with options of the browser's; at the end no script of it has failed, and
    nothing was asked of others.
    """
    contexts, faults, asked = [], [], []

    def open_it(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda fault: faults.append(fault))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not faults
    assert all(url.startswith((address, "blob:", "data:")) for url in asked)


def drop(page, photos, event="drop"):
    """Drop or paste photos, {name: bytes}."""
    page.evaluate(
        """([photos, event]) => {
            const data = new DataTransfer();
            for (const [name, text] of Object.entries(photos)) {
                const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
                data.items.add(new File([bytes], name));
            }
            const key = event === "paste" ? "clipboardData" : "dataTransfer";
            const Kind = event === "paste" ? ClipboardEvent : DragEvent;
            document.dispatchEvent(new Kind(event, {[key]: data, cancelable: true}));
        }""",
        [{name: base64.b64encode(data).decode() for name, data in photos.items()}, event],
    )


def download(page, button):
    """Name and bytes of what a button saves."""
    with page.expect_download() as caught:
        button.click()
    return caught.value.suggested_filename, Path(caught.value.path()).read_bytes()


def test_photos_become_pictures_and_a_zip(open_page, tmp_path):
    photos = [COFFEE, CHELSEA]
    predict(*photos, "--save", "cutout", "mask", "overlay", "--output", tmp_path)
    page = open_page()
    page.set_input_files("#files", photos)
    page.locator(SHOWN).nth(1).wait_for()
    assert page.get_by_role("status").inner_text() == "2 of 2 done"
    cup = page.locator(".photo", has_text="coffee.jpg")
    for kind, name in (("Cut-out", "coffee-cutout.png"), ("Overlay", "coffee-overlay.jpg")):
        cup.get_by_role("button", name=kind).click()
        page.get_by_alt_text(f"{kind} of coffee.jpg").wait_for()
        found = download(page, cup.get_by_role("button", name="Download"))
        assert found == (name, (tmp_path / name).read_bytes())
    name, data = download(page, page.get_by_role("button", name="All as ZIP"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = {"coffee-cutout.png", "coffee-overlay.jpg", "chelsea-cutout.png"}
        assert set(archive.namelist()) == names
        assert all(archive.read(each) == (tmp_path / each).read_bytes() for each in names)
    cup.get_by_role("button", name="Remove").click()
    assert page.locator(".photo").count() == 1


def test_dropped_and_pasted_photos_and_those_that_fail(open_page, cat):
    page = open_page()
    drop(page, {"猫.jpg": encoded(cat), "note.txt": b"no image"})
    drop(page, {"pasted.png": encoded(cat, "PNG"), "large.bmp": bytes(2 << 20)}, "paste")
    page.locator(SHOWN).nth(1).wait_for()
    page.locator(".failed").nth(1).wait_for()
    faults = [fault for fault in page.locator(".fault").all_inner_texts() if fault]
    assert faults[0].startswith("note.txt: is not an image (JPEG, ")
    assert faults[1] == "large.bmp: is larger than 1 megabytes"
    assert page.get_by_role("status").inner_text() == "2 of 4 done, 2 failed"
    assert page.get_by_role("progressbar").count() == 0


def test_the_model_the_background_and_the_slider(open_page):
    page = open_page()
    page.set_input_files("#files", COFFEE)
    page.locator(SHOWN).wait_for()
    button = page.get_by_role("button", name="Download")
    accurate = download(page, button)
    page.get_by_role("button", name="small").click()
    page.locator(".photo:not(.waiting)").wait_for()
    assert download(page, button) != accurate
    page.get_by_role("button", name="accurate").click()
    assert download(page, button) == accurate
    page.get_by_role("button", name="black").click()
    colour = page.locator(SHOWN).evaluate("image => getComputedStyle(image).backgroundColor")
    assert colour == "rgb(0, 0, 0)"
    slider = page.get_by_role("slider", name="Before and after")
    assert not slider.is_visible()
    page.get_by_role("button", name="Compare").click()
    boxes = [page.locator(f".{kind} img").bounding_box() for kind in ("original", "result")]
    assert boxes[0] == boxes[1]
    slider.focus()
    page.keyboard.press("End")
    cut = page.locator(".result").evaluate("figure => getComputedStyle(figure).clipPath")
    assert cut == "inset(0px 0px 0px 100%)"


@pytest.mark.parametrize(
    ("locale", "title", "button"),
    [
        ("zh-CN", "抠出照片里的主体", "下载"),
        ("en-GB", "Cut out the object in a photo", "Download"),
        ("fr", "Cut out the object in a photo", "Download"),
    ],
)
def test_languages_on_a_phone_in_the_dark(open_page, cat, locale, title, button):
    screen = {"width": 360, "height": 740}
    page = open_page(locale=locale, viewport=screen, color_scheme="dark")
    drop(page, {f"{'long-' * 20}name.jpg": encoded(cat)})
    page.locator(SHOWN).wait_for()
    assert page.get_by_role("heading", level=1).inner_text() == title
    assert page.get_by_role("button", name=button, exact=True).is_enabled()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, back[4:-1].split(","))) < 60


def test_keys_reach_everything_and_each_thing_has_a_name(open_page, cat):
    page = open_page()
    drop(page, {"a.jpg": encoded(cat)})
    page.locator(SHOWN).wait_for()
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.textContent || document.activeElement.id")
        if focused in reached:
            break
        reached.append(focused)
    for name in ("files", "accurate", "small", "checkered", "All as ZIP", "Mask", "Download"):
        assert name in reached
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("input[type=range]:not([aria-label])").count() == 0
