"""Wheel, drags, fingers: what they do to matrix, heads and neurons."""

import time

import attention_files as files
from browser import Keys
from test_views import hover_cell, pixels, says


def open_page(bench, state):
    """A file that has to be scrolled: 200 tokens."""
    page, file = bench.open("scrolled", state,
                            make=None if "scrolled" in bench.known else
                            files.large_file(200, 1, 2))
    return page, file.parts[0]


def send(page, method, **arguments):
    page.driver.execute_cdp_cmd("Input." + method, arguments)


def canvas(page, view):
    return page.js("""
      const canvas = document.querySelector(`#view-${arguments[0]} canvas`);
      const {left, top} = canvas.getBoundingClientRect();
      return [left, top];""", view)


def mouse(page, view, kind, x, y, **more):
    left, top = canvas(page, view)
    send(page, "dispatchMouseEvent", type=kind, x=left + x, y=top + y, **more)
    page.settle()


def drag(page, view, places):
    (x, y), *rest = places
    mouse(page, view, "mousePressed", x, y, button="left", clickCount=1)
    for x, y in rest:
        mouse(page, view, "mouseMoved", x, y, button="left", buttons=1)
    mouse(page, view, "mouseReleased", x, y, button="left", clickCount=1)


def fingers(page, view, steps):
    """steps [[(x, y) of each finger]]: put down, moved, lifted."""
    left, top = canvas(page, view)
    for kind, places in [("touchStart", steps[0])] + [
            ("touchMove", step) for step in steps[1:]] + [("touchEnd", [])]:
        send(page, "dispatchTouchEvent", type=kind, touchPoints=[
            {"x": left + x, "y": top + y, "id": i}
            for i, (x, y) in enumerate(places)])
    page.settle()


def matrix(page):
    return page.js("""
      const view = App.page.views.matrix;
      const [place] = view.places;
      return {cell: view.cell, x: view.across.offset, y: view.along.offset,
              left: place.x, top: place.y, wide: place.w, high: place.h};""")


def selected(page):
    return page.state("row"), page.state("key")


def test_matrix_zoomed_and_moved(bench):
    page, part = open_page(bench, "view=matrix&head=1&zoom=8")
    page.js("App.page.views.matrix.pan(300, 300)")
    page.settle()
    mouse(page, "matrix", "mouseMoved", 500, 300)
    row, key = selected(page)
    assert row > 30 and key > 30
    for delta in (-120, -120, 120, -120):
        mouse(page, "matrix", "mouseWheel", 500, 300, deltaX=0, deltaY=delta)
    mouse(page, "matrix", "mouseMoved", 500, 301)
    assert matrix(page)["cell"] >= 12 and selected(page) == (row, key)
    says(page, part.weights(0)[1, row, key])
    # What is dragged stays below the pointer, and is not locked by it.
    drag(page, "matrix", [(500, 301), (450, 280), (400, 221)])
    mouse(page, "matrix", "mouseMoved", 401, 221)
    assert selected(page) == (row, key) and not page.state("locked")
    # The scroll bar, pressed at its end.
    at = matrix(page)
    drag(page, "matrix", [(at["left"] + at["wide"] + 5,
                           at["top"] + at["high"] - 3)])
    hover_cell(page, 199, key)
    assert selected(page) == (199, key)
    # Out again as far as it goes: all fit.
    for _ in range(12):
        mouse(page, "matrix", "mouseWheel", 500, 300, deltaX=0, deltaY=400)
    assert page.state("zoom") == 0 and matrix(page)["y"] == 0
    hover_cell(page, 199, 0)
    says(page, part.weights(0)[1, 199, 0])


def test_selected_cell_is_scrolled_to(bench):
    page, _ = open_page(bench,
                        "view=matrix&zoom=20&row=150&key=120&locked=1")

    def is_seen(row, key):
        at = matrix(page)
        return (0 <= row * at["cell"] - at["y"] < at["high"] and
                0 <= key * at["cell"] - at["x"] < at["wide"])

    assert is_seen(150, 120)
    page.keys(*[Keys.ARROW_UP] * 40)
    assert selected(page) == (110, 120) and is_seen(110, 120)
    for view in ("heads", "neurons"):
        page.set(view=view, row=180, key=10, locked=True)
        bar = page.js(f"""
          const view = App.page.views.{view};
          const bar = view.bar || view.rowBar;
          return [bar.offset, bar.view, bar.content];""")
        assert bar[0] <= 180.5 / 200 * bar[2] <= bar[0] + bar[1], (view, bar)


def test_keys_that_scroll(bench):
    page, _ = open_page(bench, "view=heads")
    page.js("document.getElementById('view-heads').focus()")

    def seen():
        bar = page.js("""const {offset, view, content} =
          App.page.views.heads.bar; return [offset, view, content];""")
        return bar[0], bar[0] + bar[1], bar[2]

    assert seen()[0] == 0
    page.keys(Keys.PAGE_DOWN)
    assert 0 < seen()[0] < seen()[2] / 2
    page.keys(Keys.END)
    assert seen()[1] == seen()[2]
    page.keys(Keys.HOME)
    assert seen()[0] == 0


def test_thin_lines_are_seen(bench):
    """Keys that all rows look at, in cells smaller than pixels: none of their
    lines is left away, and none is darker."""
    page, _ = open_page(bench, "view=matrix")
    keys = list(range(300, 700, 13))
    page.js("""
      const [{frame, ...entry}] = App.page.drawn;
      const n = 1000;
      const axis = {n, labels: Array(n).fill('a'), groups: [], segments: [],
                    added: []};
      const values = new Float32Array(n * n);
      for (let i = 0; i < n; i++) {
        for (const key of arguments[0]) values[i * n + key] = 1;
      }
      const view = App.page.views.matrix;
      view.draw([{...entry, frame: {...frame, rows: axis, keys: axis, values,
                                    low: 0, high: 1}}],
                App.page.store.get());""", keys)
    at = matrix(page)
    assert at["cell"] < 1
    y = int(at["top"] + 200)
    for key in keys:
        x = int(at["left"] + (key + 0.5) * at["cell"])
        line = pixels(page, "matrix", [[x + d, y] for d in range(-3, 4)])
        assert max(line[:, 0]) > 240 and max(line[:, 1]) > 220, key  # yellow
        assert min(line[:, 0]) < 80


def test_line_between_tokens_hovered(bench):
    page, part = open_page(bench, "view=heads&head=1&lines=3")
    line = page.js("""
      const view = App.page.views.heads;
      const [place] = view.places;
      const lines = view.linesOfAll(place).sort((a, b) => b.value - a.value);
      const line = lines.find(({row}) => row > 5 && row < 20);
      const {y0, y1} = view.ends(place, line);
      return {...line, x: (place.from + place.to) / 2, y: (y0 + y1) / 2};""")
    mouse(page, "heads", "mouseMoved", line["x"], line["y"])
    row, key = selected(page)
    assert (row, key) == (line["row"], line["key"])
    says(page, part.weights(0)[1, row, key])


def test_fingers(bench):
    page, part = open_page(bench, "view=matrix&head=1")
    driver = page.driver
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": 390, "height": 844, "deviceScaleFactor": 3,
            "mobile": True})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled",
                               {"enabled": True})
        page.settle()
        time.sleep(0.1)  # the observers of sizes
        fingers(page, "matrix", [[(200, 200)]])
        row, key = selected(page)
        assert page.state("locked") and row >= 0 and key >= 0
        says(page, part.weights(0)[1, row, key])
        before = matrix(page)
        fingers(page, "matrix", [[(150 - 8 * i, 220), (250 + 8 * i, 220)]
                                 for i in range(11)])
        wide = matrix(page)
        assert 1.8 * before["cell"] < wide["cell"] < 3 * before["cell"]
        fingers(page, "matrix", [[(200, 250 - 10 * i)] for i in range(9)])
        moved = matrix(page)
        assert 50 < moved["y"] - wide["y"] < 90
        assert selected(page) == (row, key)
        page.set(view="heads")
        fingers(page, "heads", [[(200, 300 - 20 * i)] for i in range(9)])
        assert page.js("return App.page.views.heads.bar.offset") > 0
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled",
                               {"enabled": False})
