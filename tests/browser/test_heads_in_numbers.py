"""The table of heads, the thumbnails, and what else is round the views."""

import numpy as np
from selenium.webdriver.common.action_chains import ActionChains

import attention_files as files
from browser import Keys
from test_views import hover_cell, is_drawn, says

THRESHOLD = 0.5  # of a badge, as the page states it


def first_and_previous(part):
    """Mean weights [layers * heads] on the first token and the one before."""
    weights = [part.exact_weights(layer)[head] for layer in range(part.layers)
               for head in range(part.heads)]
    return (np.array([w[:, 0].mean() for w in weights]),
            np.array([np.mean([w[i, i - 1] for i in range(1, len(w))])
                      for w in weights]))


def badges(page):
    """Of each row of the table its badges: {"layer-head": "PF"}."""
    return page.js("""return Object.fromEntries(Array.from(
        document.querySelectorAll('#statistics [id^="stat-"]'), row => [
          row.id.slice(5), Array.from(row.querySelectorAll('.badge'),
                                      badge => badge.textContent).join('')]));
        """)


def test_badges(bench):
    seen = set()
    for name in ("pair", "causal", "translation"):
        page, file = bench.open(name)
        for index, part in enumerate(file.parts):
            page.set(part=index)
            first, previous = first_and_previous(part) if index < 2 else (
                [part.exact_weights(layer)[head][:, 0].mean()
                 for layer in range(part.layers) for head in range(part.heads)],
                np.zeros(part.layers * part.heads))
            got = badges(page)
            assert len(got) == part.layers * part.heads
            for i, (f, p) in enumerate(zip(first, previous)):
                if min(abs(f - THRESHOLD), abs(p - THRESHOLD)) < 1e-3:
                    continue  # weights of a file are rounded
                want = "P" * int(p > THRESHOLD) + "F" * int(f > THRESHOLD)
                assert got[f"{i // part.heads}-{i % part.heads}"] == want
                seen.add(want)
    assert len(seen) > 1, seen  # else this has tested nothing


def test_table_by_keys(bench):
    page, _ = bench.open("pair", "view=matrix&layer=1&head=1&sort=entropy")
    order = page.js("""return Array.from(document.querySelectorAll(
        '#statistics [id^="stat-"]'), row => row.id.slice(5));""")
    at = order.index("1-1")
    step, key = (1, Keys.ARROW_DOWN) if at + 1 < len(order) else (
        -1, Keys.ARROW_UP)
    page.js("document.querySelector('#stat-1-1 button').focus()")
    page.keys(key)
    got = f"{page.state('layer')}-{page.state('head')}"
    assert got == order[at + step]
    assert page.js("return document.activeElement.closest('tr').id") == (
        f"stat-{got}")
    # A second click on a column turns the order over.
    page.click("sort-entropy")
    assert page.state("reverse") is True
    assert page.js("""return Array.from(document.querySelectorAll(
        '#statistics [id^="stat-"]'), row => row.id.slice(5));""") == order[::-1]


def test_thumbnail_opens_matrix(bench):
    page, file = bench.open("causal", "view=model")
    x, y = page.js("""
      const [grid] = App.page.views.model.grids;
      const at = grid.order.indexOf(grid.entry.part.heads + 2);
      const {x, y} = ModelView.place(grid, at);
      return [x + grid.w / 2, y + grid.h / 2];""")
    page.hover("view-model", x, y)
    ActionChains(page.driver, duration=0).double_click().perform()
    page.settle()
    assert page.state("view") == "matrix"
    assert page.state("layer") == 1 and page.state("head") == 2
    hover_cell(page, 9, 3)
    says(page, file.parts[0].weights(1)[2][9, 3])


def test_thumbnails_of_many_shapes(bench):
    """All heads have a place within the view, and none has two."""
    for name in ("pair", "causal", "translation"):
        page, file = bench.open(name, "view=model")
        for sort in ("index", "first"):
            page.set(sort=sort)
            grid, box = page.js("""
              const [grid] = App.page.views.model.grids;
              const e = document.getElementById('view-model');
              return [{w: grid.w, h: grid.h, places: grid.order.map(
                           (_, at) => ModelView.place(grid, at))},
                      [e.clientWidth, e.clientHeight]];""")
            places = np.array([[p["x"], p["y"]] for p in grid["places"]])
            part = file.parts[0]
            assert len(places) == part.layers * part.heads
            assert (places >= 0).all()
            assert (places + [grid["w"], grid["h"]] <= box).all()
            apart = np.abs(places[:, None] - places[None])
            apart[range(len(places)), range(len(places))] = 1e9
            assert ((apart[..., 0] >= grid["w"]) |
                    (apart[..., 1] >= grid["h"])).all()


def test_table_hidden(bench):
    page, _ = bench.open("pair", "view=matrix")

    def width():
        return page.js("return document.getElementById('view').clientWidth")

    before = width()
    page.click("side-toggle")
    assert not page.find("side").is_displayed() and width() > before + 200
    assert is_drawn(page, "matrix") > 500
    page.keys("b")
    assert page.find("side").is_displayed() and width() == before


def test_hash_while_pointing(bench):
    """Browsers refuse a hash that changes with every move."""
    page, _ = bench.open("pair", "view=matrix")
    page.js("""window.written = 0;
      const write = history.replaceState.bind(history);
      history.replaceState = (...all) => {
        window.written++;
        write(...all);
      };""")
    page.driver.execute_async_script("""
      const done = arguments[arguments.length - 1];
      let i = 0;
      const step = () => {
        if (i++ >= 20) return done();
        App.page.point(i % 7, i % 5);
        requestAnimationFrame(step);
      };
      step();""")
    assert page.js("return window.written") <= 2
    page.wait(lambda: "row=6" in page.js("return location.hash"),
              "the hash of a pointer that rests")
    assert page.js("return window.written") <= 3


def test_difference_of_heads(bench):
    """The table has differences, the largest first, whatever their sign."""
    page, (one, two) = bench.open(
        "two", "view=model&compare=difference&sort=first",
        make=files.pair_file(), second=files.pair_file("another", 9))
    [a], [b] = one.parts, two.parts
    want = first_and_previous(a)[0] - first_and_previous(b)[0]
    rows = page.js("""return Array.from(document.querySelectorAll(
        '#statistics [id^="stat-"]'), row => [
            row.id.slice(5), row.children[4].title]);""")
    got = np.array([float(text) for _, text in rows])
    places = [int(row.split("-")[0]) * a.heads + int(row.split("-")[1])
              for row, _ in rows]
    assert np.abs(got - want[places]).max() < 1e-3
    assert (np.diff(np.abs(got)) <= 1e-6).all()
    assert (got < 0).any() and (got > 0).any()


def test_help_names_every_key(bench):
    page, _ = bench.open("pair")
    page.keys("?")
    assert page.js("return document.getElementById('help-dialog').open")
    text = page.text("help-body")
    for does in page.js("return App.page.keys.table.map(one => one.does)"):
        assert does in text
    page.keys(Keys.ESCAPE)
    assert not page.js("return document.getElementById('help-dialog').open")


def test_names_for_those_who_hear(bench):
    """What can be pressed or filled in has a name; so has every picture."""
    page, _ = bench.open("pair")
    for view in ("heads", "model", "matrix", "neurons"):
        page.set(view=view)
        nameless = page.js("""
          const named = e => (e.getAttribute('aria-label') || e.textContent ||
              e.title).trim() || (e.labels && e.labels.length);
          return Array.from(document.querySelectorAll(
              'button, select, input, canvas')).filter(
              e => e.checkVisibility() && !named(e)).map(e => e.outerHTML);""")
        assert nameless == [], nameless


def test_contrast(bench):
    """Text on what is behind it, in both themes: 4.5 to 1 (WCAG AA)."""
    page, _ = bench.open("pair")

    def light(color):
        c = np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)]) / 255
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ [0.2126, 0.7152, 0.0722]

    for theme in ("light", "dark"):
        page.set(theme=theme)
        color = page.js("""
          const style = getComputedStyle(document.documentElement);
          const of = name => [name, style.getPropertyValue(name).trim()];
          return Object.fromEntries(['--page', '--surface', '--raised',
            '--tint', '--bar', '--text', '--muted', '--mark', '--accent',
            '--on-accent'].map(of));""")
        pairs = [(ink, paper) for ink in ("--text", "--muted", "--mark")
                 for paper in ("--page", "--surface", "--raised")]
        pairs += [("--text", "--tint"), ("--text", "--bar"),
                  ("--on-accent", "--accent"), ("--accent", "--page")]
        for ink, paper in pairs:
            a, b = sorted((light(color[ink]), light(color[paper])))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (theme, ink, paper)
