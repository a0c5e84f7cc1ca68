"""The report page in a real browser: Chromium without a window, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or a skip that says what is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install selenium")
    binary = next((path for path in map(shutil.which, BROWSERS) if path), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium and chromedriver: on Debian, apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    if os.geteuid() == 0:  # Chromium's sandbox refuses root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser: Any, page: Any) -> Any:
    """The page, freshly loaded; behind the test, its console must be empty and nothing but itself loaded."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)  # which forgets what it gives
    browser.get(page.path.as_uri())
    # on a busy machine get() may come back while the page is still being read
    loaded = "return document.readyState === 'complete' && location.protocol === 'file:'"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(loaded))
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    requests = [
        row["message"] for row in browser.get_log("performance") if 'requestWillBeSent"' in row["message"]
    ]
    assert requests and all('"url":"file:' in text or '"url":"data:' in text for text in requests)


def seen(browser: Any, selector: str, what: str = "textContent") -> list[str]:
    """Texts of the elements that a user sees, or another property of them."""
    script = """return [...document.querySelectorAll(arguments[0])]
    .filter((part) => part.getClientRects().length).map((part) => part[arguments[1]])"""
    return browser.execute_script(script, selector, what)


def press(browser: Any, selector: str, *keys: str) -> None:
    browser.find_element("css selector", selector).send_keys(*keys)


def column(browser: Any, number: int) -> list[str]:
    """What the table sorts by, row by row."""
    script = "return [...document.querySelectorAll(arguments[0])].map((cell) => cell.dataset.value)"
    return browser.execute_script(script, f"#layers tbody tr > :nth-child({number})")


def test_the_slider_moves_and_numbers_boxes_maps_and_curve_follow(opened: Any, page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    assert seen(opened, "#steps span") == ["step 6 of 6"]
    press(opened, "#step", Keys.HOME)
    steps, spikes, maps, scores, columns = [], [], [], [], []
    for _ in range(6):
        steps += seen(opened, "#steps span")
        spikes += [int(text.replace(",", "")) for text in seen(opened, "dd.spikes")]
        maps += seen(opened, ".maps img", "src")
        scores += seen(opened, ".score span")
        columns += seen(opened, ".heat thead .now")
        (count,) = seen(opened, "dd.detections")
        assert int(count) == len(seen(opened, "ol.found li")) == len(seen(opened, ".photo rect.box"))
        press(opened, "#step", Keys.ARROW_RIGHT)
    assert steps == [f"step {step} of 6" for step in range(1, 7)] and columns == [
        f"step {s}" for s in range(1, 7)
    ]
    assert len(spikes) == 6 and all(a < b for a, b in zip(spikes[:4], spikes[1:4], strict=False))
    assert len(set(maps[:4])) == 4
    assert scores[0] == "mAP50 2.0 % at step 1." and scores[2] == "No score is known at step 3."
    assert scores[5] == "mAP50 41.2 % at step 6."
    assert int(count) > 0


def test_boxes_lie_on_the_picture(opened: Any) -> None:
    photo = opened.find_element("css selector", ".photo img").rect
    drawing = opened.find_element("css selector", ".photo svg").rect
    assert all(abs(photo[side] - drawing[side]) < 1 for side in ("x", "y", "width", "height"))
    labels = opened.execute_script("""return [...document.querySelectorAll(".photo svg text")]
    .map((label) => label.getBoundingClientRect()).filter((place) => place.width)
    .map((place) => [place.left, place.right])""")
    assert labels
    for left, right in labels:
        assert photo["x"] - 1 <= left <= right <= photo["x"] + photo["width"] + 1


def test_pictures_and_layers_are_chosen(opened: Any, page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    first = seen(opened, "dd.spikes")
    picture = Select(opened.find_element("id", "picture"))
    assert [option.text for option in picture.options] == [path.name for path in page.pictures]
    picture.select_by_index(1)
    assert seen(opened, "dd.spikes") != first and len(seen(opened, "dd.spikes")) == 1
    layer = Select(opened.find_element("id", "layer"))
    before = seen(opened, ".maps figcaption")
    layer.select_by_index(2)
    after = seen(opened, ".maps figcaption")
    assert len(before) == len(after) == 1 and before != after
    (alt,) = seen(opened, ".maps img", "alt")
    assert layer.options[2].text.split()[0] in alt
    assert all(int(wide) > 0 for wide in seen(opened, "img", "naturalWidth"))


@pytest.mark.parametrize("number", [1, 3, 4, 5, 10, 12])
def test_the_table_sorts_both_ways_by_keyboard(opened: Any, number: int) -> None:
    from selenium.webdriver.common.keys import Keys

    head = f"#layers thead th:nth-child({number}) button"
    before = column(opened, number)
    for direction, down in (("ascending", False), ("descending", True)):
        press(opened, head, Keys.ENTER)
        values = column(opened, number)
        present, missing = [v for v in values if v], [v for v in values if not v]
        if number > 1:
            numbers = [float(v) for v in present]
            assert numbers == sorted(numbers, reverse=down)
            assert len(set(numbers)) > 1
        else:  # names with numbers in them: layers.2 stands before layers.10
            places = [int(v.split(".")[1]) for v in present]
            assert places == sorted(places, reverse=down) and len(places) > 9
        assert values == present + missing and sorted(values) == sorted(before)
        assert (
            opened.find_element("css selector", f"#layers th:nth-child({number})").get_attribute("aria-sort")
            == direction
        )
    assert len(opened.find_elements("css selector", "#layers th[aria-sort]")) == 1


def test_play_goes_to_the_end_and_stops(opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    script = """const play = document.getElementById("play"); play.click();
    return [play.textContent, document.querySelector("#steps :not([hidden])").textContent]"""
    assert opened.execute_script(script) == ["Stop", "step 1 of 6"]
    play = opened.find_element("id", "play")
    WebDriverWait(opened, 60).until(lambda _: play.text == "Play")
    assert seen(opened, "#steps span") == ["step 6 of 6"]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window_and_dark_is_dark(opened: Any, width: int) -> None:
    def send(name: str, **values: Any) -> None:
        opened.execute_cdp_cmd(f"Emulation.{name}", values)

    send("setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    lightness = {}
    for mode in ("light", "dark"):
        send("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        script = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        ground, ink = opened.execute_script(script)
        lightness[mode] = [sum(map(int, c.strip("rgb()").split(", "))) for c in (ground, ink)]
    assert lightness["light"][0] > 600 > 200 > lightness["light"][1]
    assert lightness["dark"][0] < 200 < 600 < lightness["dark"][1]
    send("setEmulatedMedia", features=[])
    send("clearDeviceMetricsOverride")


def test_without_its_script_the_page_shows_the_last_step(browser: Any, page: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.path.as_uri())
        assert len(seen(browser, "dd.spikes")) == len(seen(browser, ".score span")) == 1
        assert seen(browser, "#steps span") == ["step 6 of 6"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
