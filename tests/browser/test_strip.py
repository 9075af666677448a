"""The text above the view: what it shows, and what it selects."""

import numpy as np

import attention_files as files
from browser import Keys
from test_gestures import send
from test_views import is_drawn, says


def parts(page, side="key"):
    """How strong the colour of each token is, 0..1 of the strongest."""
    found = page.js("""return Array.from(document.querySelectorAll(
        `#text-${arguments[0]}s .token`),
        item => item.style.getPropertyValue('--part'));""", side)
    values = np.array([float(text.rstrip("%")) for text in found])
    return values / 45


def point(page, side, i):
    x, y = page.js("""
      const [side, i] = arguments;
      const item = document.getElementById(`text-${side}-${i}`);
      const box = item.getBoundingClientRect();
      const of = document.getElementById('text').getBoundingClientRect();
      return [(box.left + box.right) / 2 - of.left,
              (box.top + box.bottom) / 2 - of.top];""", side, i)
    page.hover("text", x, y)


def test_text_is_coloured(bench):
    page, file = bench.open("pair", "view=matrix&layer=1&head=2")
    part = file.parts[0]
    w = part.weights(1)[2]
    mean = w.mean(0)
    assert np.abs(parts(page) - (mean / mean.max()) ** 0.7).max() < 0.01
    assert page.text("text-what") == "mean weight received"
    assert not page.find("text-rows").is_displayed()
    words = page.text("text-keys")
    assert words.startswith("[CLS] the rabbit hopped over the fence. [SEP]")
    # A row that is pointed at, wherever that is.
    point(page, "key", 4)
    assert page.state("row") == 4 and page.state("key") == -1
    assert np.abs(parts(page) - (w[4] / w[4].max()) ** 0.7).max() < 0.01
    assert "row 4" in page.text("text-what")
    says(page, w[4].max())
    page.press()
    assert page.state("locked") is True
    point(page, "key", 9)
    assert page.state("row") == 4
    for view in ("heads", "neurons"):
        page.set(view=view)
        assert page.find("text").is_displayed() and is_drawn(page, view) > 500
    page.set(view="model")
    assert not page.find("text").is_displayed()


def test_text_by_keys(bench):
    page, file = bench.open("causal", "view=heads&layer=1&head=2")
    page.js("document.getElementById('text-keys').focus()")
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.state("row") == 2 and page.state("locked") is True
    assert page.state("head") == 2
    page.keys(Keys.END, Keys.ARROW_LEFT)
    assert page.state("row") == 24
    chosen = page.js("""return document.getElementById(
        document.getElementById('text-keys').getAttribute(
            'aria-activedescendant')).getAttribute('aria-selected');""")
    assert chosen == "true"
    page.keys(Keys.HOME)
    unseen = page.js("""return Array.from(document.querySelectorAll(
        '#text-keys .token'), item => item.classList.contains('unseen'));""")
    assert unseen == [False] + [True] * 25
    page.keys(Keys.ENTER)
    assert page.state("locked") is False
    page.click("text-toggle")
    assert not page.find("text-keys").is_displayed()
    page.click("text-toggle")
    assert page.find("text-keys").is_displayed()


def test_two_texts(bench):
    page, file = bench.open("translation", "view=matrix&part=2&layer=1&head=1")
    w = file.parts[2].weights(1)[1]
    assert page.text("text-keys") == "3rd of May 98"
    assert "1998-05-03" in page.text("text-rows")
    point(page, "row", 3)
    assert (page.state("row"), page.state("key")) == (3, -1)
    assert np.abs(parts(page) - (w[3] / w[3].max()) ** 0.7).max() < 0.01
    point(page, "key", 5)
    assert (page.state("row"), page.state("key")) == (-1, 5)
    # Of a pair only: rows of one sentence and keys of the other.
    page, file = bench.open("pair", "view=matrix&pair=01")
    assert page.find("text-rows").is_displayed()
    assert "rabbit" in page.text("text-rows")
    assert "landed" in page.text("text-keys")


def test_text_is_searched(bench):
    page, file = bench.open("causal", "view=heads")
    found = """return Array.from(document.querySelectorAll('.token.found'),
                               item => Number(item.dataset.place));"""
    page.set(search="isapp")
    assert page.js(found) == [2, 3]
    page.set(words=True)
    assert page.js(found) == [2]
    page.set(search="")
    assert page.js(found) == []
    page.set(words=False, heads=[0, 3])
    assert page.text("text-what") == "mean weight received, head 0"


def test_long_text_scrolls_to_its_row(bench):
    page, file = bench.open("scrolled", "view=matrix",
                            make=None if "scrolled" in bench.known else
                            files.large_file(200, 1, 2))
    page.set(row=190, key=-1, locked=True)
    inside = page.js("""
      const item = document.getElementById('text-key-190');
      const a = item.getBoundingClientRect();
      const b = item.parentElement.getBoundingClientRect();
      return a.top >= b.top - 3 && a.bottom <= b.bottom + 3 &&
          b.height < 80;""")
    assert inside


def test_text_on_a_phone(bench):
    page, file = bench.open("pair", "view=heads&layer=1&head=2")
    driver = page.driver
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": 390, "height": 844, "deviceScaleFactor": 2,
            "mobile": True})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled",
                               {"enabled": True})
        page.open(bench.known["pair"][0], "view=heads&layer=1&head=2")
        assert page.js("return document.documentElement.scrollWidth") <= 390
        assert "Tap a token" in page.text("readout")
        x, y = page.js("""const box = document.getElementById('text-key-2')
          .getBoundingClientRect();
          return [(box.left + box.right) / 2, (box.top + box.bottom) / 2];""")
        for kind, places in (("touchStart", [{"x": x, "y": y}]),
                             ("touchEnd", [])):
            send(page, "dispatchTouchEvent", type=kind, touchPoints=places)
        page.wait(lambda: page.state("locked"), "a tap on the text")
        page.settle()
        assert page.state("row") == 2
        says(page, file.parts[0].weights(1)[2][2].max())
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled",
                               {"enabled": False})
