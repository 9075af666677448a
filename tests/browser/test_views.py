"""What is drawn, and what is said of it where the pointer is."""

import re

import numpy as np
from selenium.webdriver.common.keys import Keys

import attention_files as files
import expected

PALETTE = np.array([[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142],
                    [33, 144, 141], [39, 173, 129], [92, 200, 99],
                    [170, 220, 50], [253, 231, 37]], float)


def canvas_of(view):
    return f"document.querySelector('#view-{view} canvas')"


def pixels(page, view, places):
    """[n, 4] of places [(x, y)] of a view's canvas."""
    return np.array(page.js(f"""
      const canvas = {canvas_of(view)};
      // Read from a copy: what is read often is drawn slowly.
      const copy = new OffscreenCanvas(canvas.width, canvas.height);
      const context = copy.getContext('2d', {{willReadFrequently: true}});
      context.drawImage(canvas, 0, 0);
      return arguments[0].map(([x, y]) =>
          Array.from(context.getImageData(x, y, 1, 1).data));""", places))


def is_drawn(page, view):
    """How many pixels are not of the commonest colour; there are many colours."""
    colors, others = page.js(f"""
      const canvas = {canvas_of(view)};
      const copy = new OffscreenCanvas(canvas.width, canvas.height);
      const context = copy.getContext('2d', {{willReadFrequently: true}});
      context.drawImage(canvas, 0, 0);
      const all = new Uint32Array(context.getImageData(
          0, 0, canvas.width, canvas.height).data.buffer);
      const counts = new Map();
      for (const one of all) counts.set(one, (counts.get(one) || 0) + 1);
      return [counts.size, all.length - Math.max(...counts.values())];""")
    assert colors > 20, colors
    return others


def cell(page, row, key, index=0):
    """Where a cell of the matrix is, on the view's canvas: {x, y, size}."""
    return page.js("""
      const [row, key, index] = arguments;
      const view = App.page.views.matrix;
      const place = view.places[index];
      return {x: view.left(place, key), y: view.top(place, row),
              size: view.cell};""", row, key, index)


def hover_cell(page, row, key, index=0, within=0.5):
    """within: 0 the upper left of the cell, 1 the lower right."""
    at = cell(page, row, key, index)
    page.hover("view-matrix", at["x"] + at["size"] * within,
               at["y"] + at["size"] * within)


def says(page, value, where="readout"):
    """That a number of the text is the value, to its 6 digits and F32."""
    text = page.text(where)
    numbers = [float(found) for found in
               re.findall(r"-?\d+\.\d+(?:e[+-]?\d+)?|(?<=weight )0\b", text)]
    near = [number for number in numbers
            if abs(number - value) <= 7e-6 * max(abs(value), 1e-3)]
    assert near, (text, value)


def test_every_view_of_every_file(bench):
    for name in ("pair", "causal", "translation", "mapped", "hostile"):
        page, file = bench.open(name)
        for view in ("heads", "model", "matrix", "neurons"):
            page.set(view=view)
            if name == "mapped" and view == "neurons":
                continue  # it has no queries; it says so
            assert is_drawn(page, view) > 500, (name, view)
        if len(file.parts) > 1:
            for part in (1, 2):
                for view in ("heads", "model", "matrix", "neurons"):
                    page.set(part=part, view=view)
                    assert is_drawn(page, view) > 500, (name, part, view)


def test_matrix_hovered(bench):
    page, file = bench.open("pair", "view=matrix&layer=2&head=3")
    part = file.parts[0]
    w = part.weights(2)[3]
    for row, key in ((0, 0), (3, 4), (18, 18), (0, 18), (18, 0), (9, 12)):
        for within in (0.1, 0.9):
            hover_cell(page, row, key, within=within)
            says(page, w[row, key])
        text = page.text("readout")
        assert f"row {row} “{part.rows.texts[row]}”" in text, text
        assert f"key {key} “{part.rows.texts[key]}”" in text, text
        assert page.state("row") == row and page.state("key") == key
        assert part.rows.texts[key] in page.text("tooltip")
    page.hover("view-matrix", 3, 3)
    assert page.state("row") == -1 and page.find("tooltip").get_attribute(
        "hidden") is not None


def test_matrix_hovered_in_every_mode(bench):
    page, file = bench.open("pair", "view=matrix")
    part = file.parts[0]
    modes = [
        (dict(stage="raw"), dict(stage="raw")),
        (dict(stage="scaled"), dict(stage="scaled")),
        (dict(temperature=0.5), dict(temperature=0.5)),
        (dict(aggregate="mean"), dict(aggregate="mean")),
        (dict(aggregate="max"), dict(aggregate="max")),
        (dict(aggregate="rollout"), dict(aggregate="rollout")),
        (dict(hide=True), dict(hide=True)),
        (dict(words=True), dict(words=True, wordpiece=True)),
        (dict(pair="10"), dict(segments=(1, 0))),
        (dict(pair="01", hide=True, words=True),
         dict(segments=(0, 1), hide=True, words=True, wordpiece=True)),
    ]
    usual = dict(stage="softmax", temperature=1, aggregate="none", hide=False,
                 words=False, pair="all", layer=1, head=2)
    for change, query in modes:
        page.set(**{**usual, **change})
        want = expected.frame(part, layer=1, head=2, **query)
        for row, key in ((1, 2), (want.shape[0] - 1, want.shape[1] - 2)):
            hover_cell(page, row, key)
            says(page, want[row, key])


def test_matrix_colors(bench):
    """A cell has the colour of its number: places and scale agree."""
    page, file = bench.open("causal", "view=matrix&layer=1&head=3&theme=light")
    w = file.parts[0].weights(1)[3]
    for colors, power in (("linear", 1), ("root", 0.5)):
        page.set(colors=colors)
        for row, key in ((0, 0), (5, 2), (9, 9), (20, 3), (25, 25), (25, 0)):
            at = cell(page, row, key)
            # Beside the number that stands in the middle.
            x, y = round(at["x"] + 2.5), round(at["y"] + 2.5)
            place = (w[row, key] / w.max()) ** power * 8
            i = min(int(place), 7)
            [color] = pixels(page, "matrix", [[x, y]])
            want = PALETTE[i] + (place - i) * (PALETTE[i + 1] - PALETTE[i])
            assert np.abs(color[:3] - want).max() <= 4, (row, key, colors)


def test_cells_that_are_not_seen(bench):
    page, file = bench.open("causal", "view=matrix&layer=1&head=3&theme=light")
    hover_cell(page, 3, 9)
    assert "not seen" in page.text("readout")
    assert "not seen" in page.text("tooltip")
    hover_cell(page, 9, 3)
    assert "not seen" not in page.text("readout")
    page.hover("view-matrix", 3, 3)
    at = cell(page, 3, 9)
    [color] = pixels(page, "matrix", [[round(at["x"] + 4), round(at["y"] + 4)]])
    assert color[3] == 0  # the ground
    # In a thumbnail too.
    images = page.js("""
      const part = App.data.runs[0].parts[0];
      const [image] = App.page.views.model.thumbnails(part, 1);
      return Array.from(image.pixels, pixel => pixel !== 0);""")
    n = file.parts[0].n
    assert (np.array(images).reshape(n, n) == np.tril(np.ones((n, n)))).all()


def test_what_a_token_is(bench):
    page, file = bench.open("causal", "view=heads")
    x, y, end = page.js("""
      const view = App.page.views.heads;
      const [place] = view.places;
      return [place.rowEnd - 8, view.middle(place, 5), place.from];""")
    page.hover("view-heads", x, y)
    text = page.text("tooltip")
    begin = file.parts[0].rows.begins[5]
    assert "row 5" in text and f"bytes {begin} to {begin} " in text, text
    assert "next in the text: the" in text
    left = page.js("return document.getElementById('tooltip')"
                   ".getBoundingClientRect().left")
    assert left >= end  # no label is below it
    assert "then “the”" in page.text("readout")


def test_cross_attention_hovered(bench):
    page, file = bench.open("translation", "view=matrix&part=2&layer=1&head=1")
    part = file.parts[2]
    for row, key in ((0, 0), (10, 12), (4, 7)):
        hover_cell(page, row, key)
        says(page, part.weights(1)[1][row, key])


def test_head_view_hovered(bench):
    page, file = bench.open("pair", "view=heads&layer=1&head=1")
    part = file.parts[0]
    w = part.weights(1)[1]

    def hover_token(side, i):
        x, y = page.js("""
          const view = App.page.views.heads;
          const place = view.places[0];
          return [arguments[0] ? place.rowEnd - 8 : place.keyStart + 8,
                  view.middle(place, arguments[1])];""", side == "row", i)
        page.hover("view-heads", x, y)

    hover_token("row", 4)
    assert page.state("row") == 4
    says(page, w[4].max())
    hover_token("key", 6)
    assert page.state("key") == 6
    says(page, w[:, 6].mean())
    # A row that is locked, and a key.
    hover_token("row", 4)
    page.press()
    assert page.state("locked") is True
    hover_token("key", 6)
    says(page, w[4].max())  # locked: the pointer changes nothing
    page.press()
    says(page, w[4, 6])
    assert page.state("key") == 6
    # A line: the strongest of all, in its middle.
    page.keys("\ue00c")
    row, key = np.unravel_index(w.argmax(), w.shape)
    x, y = page.js("""
      const view = App.page.views.heads;
      const place = view.places[0];
      return [(place.from + place.to) / 2,
              (view.middle(place, arguments[0]) +
               view.middle(place, arguments[1])) / 2];""", int(row), int(key))
    page.hover("view-heads", x, y)
    got = page.state("row"), page.state("key")
    assert got[0] >= 0 and got[1] >= 0
    says(page, w[got])


def test_several_heads(bench):
    page, file = bench.open("pair", "view=heads&layer=1&heads=0,2,3")
    one = is_drawn(page, "heads")
    assert page.state("heads") == [0, 2, 3]
    for head in range(4):
        pressed = page.find(f"heads-{head}").get_attribute("aria-pressed")
        assert (pressed == "true") == (head in (0, 2, 3))
    page.click("heads-2")
    assert page.state("heads") == [0, 3]
    assert is_drawn(page, "heads") != one
    w = file.parts[0].weights(1)
    page.set(row=4, key=7, locked=True)
    says(page, w[page.state("head"), 4, 7])


def test_neurons_hovered(bench):
    page, file = bench.open("causal", "view=neurons&layer=1&head=4&row=9"
                            "&locked=1")
    part = file.parts[0]
    query, keys = part.query[1][4, 9], part.key[1][1]

    def hover(place):
        x, y = page.js("""
          const view = App.page.views.neurons;
          const place = view.places[0];
          const {key, element} = arguments[0];
          return [element < 0 ? place.key.x + 5 :
                      place.product.x + (element + 0.5) * place.cell,
                  view.top(place, key) + place.line / 2];""", place)
        page.hover("view-neurons", x, y)

    for key in (0, 5, 9):
        for element in (0, 3, 7):
            hover({"key": key, "element": element})
            for value in (query[element], keys[key, element],
                          float(query[element]) * float(keys[key, element])):
                says(page, value, "tooltip")
        hover({"key": key, "element": -1})
        for stage in ("raw", "scaled", "masked"):
            says(page, part.scores(1, stage)[4, 9, key], "tooltip")
        says(page, part.weights(1)[4, 9, key], "tooltip")
    hover({"key": 10, "element": -1})
    assert "not seen" in page.text("tooltip")


def test_model_view(bench):
    page, file = bench.open("pair", "view=model")
    part = file.parts[0]

    def hover(layer, head):
        x, y = page.js("""
          const view = App.page.views.model;
          const [grid] = view.grids;
          const at = grid.order.indexOf(arguments[0]);
          const {x, y} = ModelView.place(grid, at);
          return [x + grid.w / 2, y + grid.h / 2];""",
                       layer * part.heads + head)
        page.hover("view-model", x, y)

    for layer, head in ((0, 0), (2, 3), (1, 2)):
        hover(layer, head)
        w = part.exact_weights(layer)[head]
        text = page.text("readout")
        assert f"Layer {layer}, head {head}" in text, text
        first = float(re.search(r"first[^\d]*([\d.]+)", text).group(1))
        assert abs(first - w[:, 0].mean()) < 1e-3
    hover(2, 3)
    page.press()
    assert page.state("layer") == 2 and page.state("head") == 3
    # Sorted, a thumbnail goes with its numbers.
    page.set(sort="entropy")
    entropy = np.concatenate([files.entropy(part.exact_weights(layer)).mean(1)
                              for layer in range(part.layers)])
    order = page.js("return App.page.views.model.grids[0].order")
    assert (np.diff(entropy[order]) * np.sign(
        entropy[order[-1]] - entropy[order[0]]) > -1e-3).all()


def test_difference_hovered(bench):
    page, (one, two) = bench.open(
        "two", "view=matrix&layer=1&head=3&compare=difference",
        make=files.pair_file(), second=files.pair_file("another", 9))
    want = one.parts[0].weights(1)[3] - two.parts[0].weights(1)[3]
    for row, key in ((1, 2), (7, 7), (12, 3)):
        hover_cell(page, row, key)
        says(page, want[row, key])
    page.set(run=1)
    hover_cell(page, 7, 7)
    says(page, -want[7, 7])
    page.set(compare="side", run=0)
    for index, file in enumerate((one, two)):
        hover_cell(page, 4, 5, index)
        says(page, file.parts[0].weights(1)[3][4, 5])
    for view in ("heads", "model", "neurons"):
        page.set(view=view)
        assert is_drawn(page, view) > 500
        page.set(compare="difference")
        assert is_drawn(page, view) > 500
        page.set(compare="side")


def test_runs_of_other_depths(bench):
    small, large = files.pair_file(), files.pair_file("deeper", 9, layers=5,
                                                      heads=6)
    page, (one, two) = bench.open("depths", "view=matrix&compare=side",
                                  make=small, second=large)
    options = "return document.getElementById(arguments[0]).options.length"
    assert page.js(options, "layer") == 5 and page.js(options, "head") == 6
    # From the last head of the first run on, by keys.
    page.set(layer=2, head=5)
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.state("layer") == 4 and "layer=4" in page.js(
        "return location.hash")
    drawn = "return App.page.drawn.map(one => [one.missing, one.frame.rows.n])"
    assert page.js(drawn) == [["a BERT has 3 layers.", 0], ["", 19]]
    hover_cell(page, 4, 5, 1)
    says(page, two.parts[0].weights(4)[5][4, 5])
    for view in ("heads", "neurons", "matrix"):
        page.set(view=view, row=3, key=4, locked=True)
        assert is_drawn(page, view) > 500
        says(page, two.parts[0].weights(4)[5][3, 4])
    page.keys(Keys.ARROW_DOWN)
    assert page.state("row") == 4
    page.set(layer=1)
    assert page.js(drawn)[0] == ["a BERT has 4 heads.", 0]
    page.set(aggregate="mean")
    says(page, one.parts[0].weights(1).mean(0)[4, 4])
    # A thumbnail of the second run selects its own layer.
    page.set(aggregate="none", head=0, layer=0, view="model", locked=False)
    x, y = page.js("""
      const grid = App.page.views.model.grids[1];
      const {x, y} = ModelView.place(grid, grid.order.indexOf(4 * 6 + 5));
      return [x + grid.w / 2, y + grid.h / 2];""")
    page.hover("view-model", x, y)
    page.press()
    assert page.state("layer") == 4 and page.state("head") == 5
    page.set(view="heads", heads=[1, 3, 5], head=3, layer=1)
    page.settle()
    assert is_drawn(page, "heads") > 500
    # Alone the first run has its own layers again.
    page.set(compare="one", layer=4)
    assert page.state("layer") == 2 and page.js(options, "layer") == 3


def test_zoom(bench):
    page, file = bench.open("causal", "view=matrix&layer=1&head=3")
    small = cell(page, 0, 0)["size"]
    page.click("zoom-in")
    page.click("zoom-in")
    assert cell(page, 0, 0)["size"] > small
    page.set(zoom=60)
    # What is selected comes into sight, and is hovered where it is.
    page.set(row=25, key=25, locked=True)
    page.set(locked=False)
    at = cell(page, 25, 25)
    box = page.js("const e = document.getElementById('view-matrix');"
                  "return [e.clientWidth, e.clientHeight]")
    assert 0 < at["x"] < box[0] and 0 < at["y"] < box[1], (at, box)
    hover_cell(page, 25, 25)
    says(page, file.parts[0].weights(1)[3][25, 25])
    page.click("zoom-fit")
    assert page.state("zoom") == 0 and cell(page, 0, 0)["size"] == small


def png_size(path):
    with open(path, "rb") as file:
        head = file.read(24)
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24],
                                                              "big")
