"""Keyboard, pickers, the URL's hash, search, locks, sorting, exports."""

import csv
import io
import os
import xml.etree.ElementTree as xml

import numpy as np
from selenium.webdriver.common.keys import Keys

import attention_files as files
from test_views import hover_cell, is_drawn, png_size, says


def test_keyboard(bench):
    page, file = bench.open("pair")
    for key, view in zip("4321", ("neurons", "matrix", "model", "heads")):
        page.keys(key)
        assert page.state("view") == view
        assert page.find(f"view-{view}").is_displayed()
        assert page.find(f"tab-{view}").get_attribute(
            "aria-selected") == "true"
    page.keys("3", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert page.state("head") == 2 and page.state("layer") == 1
    page.keys(Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert page.state("head") == 1 and page.state("layer") == 0
    page.keys("a")
    assert page.state("aggregate") == "mean"
    page.keys("a", "a", "a")
    page.keys("h")
    assert page.state("hide") is True
    page.keys("h", "w")
    assert page.state("words") is True and page.state("hide") is False
    page.keys("w", "s")
    assert page.state("stage") == "raw"
    page.keys("s", "s", "s", "]")
    assert page.state("stage") == "softmax"
    assert page.state("temperature") > 1
    page.keys("0")
    assert page.state("temperature") == 1
    page.keys("?")
    assert page.find("help-dialog").is_displayed()
    page.keys(Keys.ESCAPE)
    assert not page.find("help-dialog").is_displayed()
    page.keys("t")
    assert page.state("theme") != "auto"


def test_locked_cell_moves(bench):
    page, file = bench.open("pair", "view=matrix&layer=1&head=2")
    w = file.parts[0].weights(1)[2]
    hover_cell(page, 4, 5)
    page.press()
    assert page.state("locked") is True and page.text("lock") == "locked"
    hover_cell(page, 10, 11)
    says(page, w[4, 5])
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.state("row") == 5 and page.state("key") == 7
    says(page, w[5, 7])
    # Another head: the cell stays, and says that head's number.
    page.choose("head", 0)
    says(page, file.parts[0].weights(1)[0][5, 7])
    page.keys(Keys.ESCAPE)
    assert page.state("locked") is False
    hover_cell(page, 10, 11)
    says(page, file.parts[0].weights(1)[0][10, 11])


def test_hash(bench):
    page, file = bench.open("pair")
    assert page.js("return location.hash") == ""
    wanted = dict(view="matrix", layer=2, head=3, stage="scaled", hide=True,
                  words=True, row=4, key=2, locked=True, search="a&b=c%",
                  sort="entropy", theme="dark", zoom=20, lines=5)
    page.set(**wanted)
    hash_ = page.js("return location.hash")
    assert "view=matrix" in hash_ and "aggregate" not in hash_, hash_
    before = page.js("return App.page.store.get()")
    page, _ = bench.open("pair", hash_[1:])
    assert page.js("return App.page.store.get()") == before
    for name, value in wanted.items():
        assert before[name] == value, name
    # Another hash is read while the page is open.
    page.js("location.hash = 'view=heads&heads=0,2&temperature=0.5'")
    page.settle()
    assert page.state("heads") == [0, 2] and page.state("layer") == 0
    assert page.state("temperature") == 0.5


def test_hash_that_is_wrong(bench):
    page, file = bench.open(
        "pair", "view=none&layer=99&head=-3&row=1e9&key=x&locked=maybe&part=7"
        "&run=1&compare=side&temperature=1e9&zoom=NaN&lines=0&heads=9,1,x,1"
        "&theme=%E0%A4%A&pair=99&search=%3Cscript%3E&nonsense&__proto__=1")
    state = page.js("return App.page.store.get()")
    assert state["view"] == "heads" and state["layer"] == 2
    assert state["row"] == 18 and state["key"] == -1
    assert state["part"] == 0 and state["run"] == 0
    assert state["compare"] == "one" and state["temperature"] == 10
    assert state["zoom"] == 0 and state["lines"] == 1
    # The head is one of those that are shown.
    assert state["heads"] == [1] and state["head"] == 1
    assert state["theme"] == "auto"
    assert state["pair"] == "all" and state["search"] == "<script>"
    assert is_drawn(page, "heads") > 500
    note = page.text("note")
    for text in ("view=none", "layer=99", "head=-3"):
        assert text in note, note
    # Until something is picked.
    page.choose("layer", 1)
    assert page.text("note") == ""
    page, _ = bench.open("pair", "view=heads&layer=1&heads=2,0&hide=0&row=3")
    assert page.text("note") == ""
    page.js("location.hash = 'colour=red&hide=maybe&layer=1'")
    page.settle()
    assert "there: colour=red, hide=maybe." in page.text("note")


def test_what_is_seen_is_said(bench):
    page, _ = bench.open("causal")
    for view, words in (("heads", "tokens on the right"),
                        ("matrix", "those above"), ("model", "its columns"),
                        ("neurons", "query × key")):
        page.set(view=view)
        assert words in page.text("readout")
        writes = "wrote the next one" in page.text("readout")
        assert writes == (view != "model")
    page, _ = bench.open("pair")
    assert "wrote" not in page.text("readout")


def test_old_pictures_are_grey(bench):
    page, _ = bench.open("pair", "view=matrix")
    opacity = """return getComputedStyle(document.getElementById(
        'view-matrix')).opacity;"""
    page.js("App.page.began = performance.now() - 1000;"
            "App.page.progress(1, 100);")
    assert float(page.js(opacity)) < 0.5
    page.js("App.page.progress(100, 100)")
    assert page.js(opacity) == "1"


def test_state_that_a_page_begins_with(bench):
    page, _ = bench.open("begun", make=files.pair_file(),
                         state="view=matrix&layer=1&head=2", title="A title")
    assert page.state("view") == "matrix" and page.state("head") == 2
    assert page.text("title") == "A title"
    assert page.js("return document.title").startswith("A title")
    page.set(view="heads", layer=0)
    hash_ = page.js("return location.hash")
    page, _ = bench.open("begun", hash_[1:])
    assert page.state("view") == "heads" and page.state("layer") == 0
    assert page.state("head") == 2


def test_pickers(bench):
    page, file = bench.open("translation", "view=matrix")
    page.choose("part", 2)
    assert page.state("part") == 2
    page.choose("layer", 1)
    page.choose("head", 3)
    hover_cell(page, 4, 7)
    says(page, file.parts[2].weights(1)[3][4, 7])
    page.click("head-down")
    assert page.state("head") == 2
    page.click("layer-down")
    assert page.state("layer") == 0
    page.choose("aggregate", "max")
    hover_cell(page, 4, 7)
    says(page, file.parts[2].weights(0).max(0)[4, 7])
    # A part of three layers, then one of two.
    page.choose("part", 0)
    page.choose("layer", 2)
    page.choose("part", 1)
    assert page.state("layer") == 1
    assert not page.find("field-pair").is_displayed() or page.find(
        "pair").is_displayed()
    page, file = bench.open("pair")
    page.click("stage-raw")
    assert page.state("stage") == "raw"
    page.click("hide")
    page.click("words")
    assert page.state("hide") and page.state("words")
    page.choose("pair", "01")
    assert page.state("pair") == "01"
    page.choose("temperature", 0.5)
    assert abs(page.state("temperature") / 10 ** 0.5 - 1) < 0.02


def test_stages_that_are_not_there(bench):
    page, _ = bench.open("recorded", make=files.causal_file(
        record=("attention",)))
    assert not page.find("stage-raw").is_enabled()
    assert page.find("stage-softmax").is_enabled()
    page.set(stage="raw")
    assert "not known" in page.text("note")


def test_search(bench):
    page, file = bench.open("causal", "view=matrix&layer=1&head=3")
    before = is_drawn(page, "matrix")
    field = page.find("search")
    page.keys("/")
    field.send_keys("AIN")
    page.settle()
    assert page.state("search") == "AIN"
    assert page.text("search-count") != ""
    found = page.js("""return Tokens.find(App.page.drawn[0].frame.keys,
                                          'AIN');""")
    assert found == [7]
    assert is_drawn(page, "matrix") != before
    field.send_keys(Keys.ENTER)
    page.settle()
    assert page.state("key") == 7 or page.state("row") == 7
    # Keys of the page are letters in a field.
    field.send_keys("h3")
    page.settle()
    assert page.state("view") == "matrix" and page.state("hide") is False
    # Half of a pair of surrogates is no text for a hash.
    page.js("App.store.set({search: 'a\\ud800'});")
    page.settle()
    assert "search=a%EF%BF%BD" in page.js("return State.format(App.store.get());")


def test_sorting(bench):
    page, file = bench.open("pair")
    part = file.parts[0]
    weights = [part.exact_weights(layer)[head] for layer in range(part.layers)
               for head in range(part.heads)]
    numbers = {"entropy": [files.entropy(w).mean() for w in weights],
               "distance": [files.distance(w).mean() for w in weights],
               "previous": [np.mean([w[i, i - 1] for i in range(1, part.n)])
                            for w in weights],
               "first": [w[:, 0].mean() for w in weights]}

    def rows():
        return page.js("""return Array.from(document.querySelectorAll(
            '#statistics [id^="stat-"]'), row => row.id);""")

    names = [f"stat-{layer}-{head}" for layer in range(part.layers)
             for head in range(part.heads)]
    assert rows() == names
    for sort, values in numbers.items():
        page.click(f"sort-{sort}")
        got = np.array(values)[[names.index(row) for row in rows()]]
        steps = np.diff(got) * np.sign(got[-1] - got[0])
        assert len(got) == 12 and (steps > -1e-3).all(), (sort, got)
    page.click("sort-index")
    assert rows() == names
    page.click("stat-2-1")
    assert page.state("layer") == 2 and page.state("head") == 1
    assert page.find("stat-2-1").get_attribute("aria-current")


def test_numbers_of_what_is_shown(bench):
    page, file = bench.open("pair", "layer=1&head=2&view=matrix")
    w = file.parts[0].weights(1)[2]
    shown = {name: float(page.text(f"shown-{name}")) for name in
             ("entropy", "distance", "previous", "first")}
    assert abs(shown["entropy"] - files.entropy(w).mean()) < 6e-4
    # Recorded weights are rounded to F16.
    assert abs(shown["distance"] - files.distance(w).mean()) < 2e-3
    assert abs(shown["first"] - w[:, 0].mean()) < 6e-4
    # The table's, of what was recorded.
    table = page.js("return App.data.runs[0].parts[0].summary")
    for name, value in shown.items():
        assert abs(value - table[name][1 * 4 + 2]) < 5.1e-4
    assert page.text("shown-title") == "Layer 1, head 2"
    page.set(temperature=3.0)
    assert page.text("shown-title") == (
        "Layer 1, head 2; of what is shown: T 3")
    w = file.parts[0].weights(1, 3.0)[2]
    assert abs(float(page.text("shown-entropy")) -
               files.entropy(w).mean()) < 6e-4


def saved(page, kind):
    for name in os.listdir(page.folder):
        os.remove(os.path.join(page.folder, name))
    page.click("export")
    page.click(f"export-{kind}")
    return page.downloaded("." + kind)


def test_saved_pictures(bench):
    page, file = bench.open("causal", "view=matrix&layer=1&head=3")
    for view in ("heads", "model", "matrix", "neurons"):
        page.set(view=view)
        root = xml.parse(saved(page, "svg")).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = "".join(root.itertext())
        assert len(list(root.iter())) > 10
        assert "a causal model · decoder · " in texts
        if view != "model":
            assert "Catherine" in texts and "layer 1, head 3" in texts
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    page.set(view="matrix", stage="scaled")
    assert "layer 1, head 3 · scaled scores" in "".join(
        xml.parse(saved(page, "svg")).getroot().itertext())
    root = xml.parse(saved(page, "svg")).getroot()
    size = [2 * float(root.get(name)) for name in ("width", "height")]
    assert np.abs(np.array(png_size(saved(page, "png"))) - size).max() <= 2


def test_saved_pictures_are_whole(bench):
    """Of 200 tokens not only those in sight; and the screen stays as it is."""
    page, file = bench.open("scrolled", "view=heads",
                            make=None if "scrolled" in bench.known else
                            files.large_file(200, 1, 2))
    words = set(file.parts[0].rows.texts)
    for view in ("heads", "matrix", "neurons"):
        page.set(view=view, zoom=20)
        page.js("""const view = App.page.views[arguments[0]];
                   view.bars().forEach(bar => bar.moveTo(30));
                   view.surface.paintNow();""", view)
        before = page.js("return App.page.views[arguments[0]].bars().map("
                         "bar => [bar.offset, bar.content, bar.view])", view)
        root = xml.parse(saved(page, "svg")).getroot()
        got = {"".join(text.itertext()) for text in
               root.iter("{http://www.w3.org/2000/svg}text")}
        assert words <= got, (view, sorted(words - got)[:5])
        assert float(root.get("height")) > 199 * 14, view
        assert page.js("return App.page.views[arguments[0]].bars().map("
                       "bar => [bar.offset, bar.content, bar.view])",
                       view) == before
    # Beyond the bound: what is seen.
    page.js("CanvasView.LARGEST = 1000")
    page.set(view="heads")
    root = xml.parse(saved(page, "svg")).getroot()
    assert float(root.get("height")) < 1000


def test_saved_numbers(bench):
    page, file = bench.open("pair", "view=matrix&layer=1&head=3")
    part = file.parts[0]

    def table():
        with open(saved(page, "csv"), newline="", encoding="utf-8") as opened:
            return list(csv.reader(io.StringIO(opened.read())))

    for stage in ("softmax", "masked"):
        page.set(stage=stage)
        want = part.weights(1)[3] if stage == "softmax" else \
            part.scores(1, stage)[3]
        got = table()
        numbers = np.array([[float(cell) for cell in row[1:]]
                            for row in got[1:]])
        assert np.abs(numbers - want).max() < 2e-6 * max(1, np.abs(want).max())
        assert got[0][1] == "0 [CLS]" and got[5][0] == "4 ##pped"
    page.set(view="model", stage="softmax")
    got = table()
    assert got[0] == ["layer", "head", "entropy", "distance", "previous",
                      "first"]
    for row in got[1:]:
        w = part.exact_weights(int(row[0]))[int(row[1])]
        assert abs(float(row[2]) - files.entropy(w).mean()) < 1e-3
        assert abs(float(row[5]) - w[:, 0].mean()) < 1e-3


def test_themes(bench):
    page, _ = bench.open("pair", "view=matrix&theme=light")

    def background():
        return page.js("""
          const color = getComputedStyle(
              document.documentElement).backgroundColor;
          return color.match(/\\d+/g).slice(0, 3).map(Number);""")

    assert min(background()) > 200
    assert page.js("return document.documentElement.dataset.theme") == "light"
    light = is_drawn(page, "matrix")
    for view in ("heads", "model", "neurons", "matrix"):
        page.set(theme="dark", view=view)
        assert max(background()) < 70
        assert is_drawn(page, view) > 500
    assert light > 500


def test_phone(bench):
    page, file = bench.open("pair", "view=matrix&layer=1")
    try:
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": 390, "height": 780, "deviceScaleFactor": 2,
            "mobile": True})
        page, file = bench.open("pair", "view=matrix&layer=1&head=2")
        for view in ("heads", "model", "neurons", "matrix"):
            page.set(view=view)
            assert is_drawn(page, view) > 500
            # Nothing scrolls within the page that scrolls.
            assert page.js("""
              return ['view-model', 'statistics'].every(id => {
                const e = document.getElementById(id);
                return e.hidden || e.scrollHeight <= e.clientHeight;
              });"""), view
            wide = page.js("return document.documentElement.scrollWidth")
            assert wide <= 390, (view, wide)
        hover_cell(page, 3, 4)
        says(page, file.parts[0].weights(1)[2][3, 4])
        page.click("more")
        assert page.find("aggregate").is_displayed()
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
