"""Texts that are not what they seem, and a page that keeps to itself."""

import re
import xml.etree.ElementTree as xml

from browser import is_local
from test_controls import saved
from test_views import hover_cell


def test_hostile_tokens(bench):
    page, file = bench.open("hostile", "view=matrix")
    texts = file.parts[0].rows.texts
    elements = page.js("return document.querySelectorAll('*').length")
    for view in ("heads", "model", "neurons", "matrix"):
        page.set(view=view)
    page.set(words=True)
    page.set(words=False)
    for row, text in enumerate(texts):
        if text.startswith("x" * 9):
            continue
        hover_cell(page, row, 1)
        label = page.js("return Tokens.label(arguments[0])", text)
        assert f"row {row} “{label}”" in page.text("readout")
        assert "onerror" in page.text("tooltip")
    page.find("search").send_keys("<img")
    page.settle()
    assert page.js("return window.pwned") is None
    assert page.js("return document.querySelectorAll('img').length") == 0
    assert page.js("return document.title").startswith("</title></script>")
    # Nothing of a text became an element: one tooltip has at most a few lines.
    now = page.js("return document.querySelectorAll('*').length")
    assert now <= elements + 6, (elements, now)
    got = page.js("return App.page.data.runs[0].parts[0].rows.texts")
    assert got == texts
    assert page.js("return App.page.data.runs[0].text") == file.text


def test_hostile_pictures(bench):
    page, file = bench.open("hostile", "view=heads")
    for view in ("heads", "matrix", "neurons"):
        page.set(view=view)
        root = xml.parse(saved(page, "svg")).getroot()
        names = {element.tag.split("}")[1] for element in root.iter()}
        assert "script" not in names and "img" not in names
        for element in root.iter():
            for name, value in element.attrib.items():
                assert not name.startswith("on"), name
                if name.endswith("href"):
                    assert value.startswith("data:image/png"), value[:40]


def test_labels(bench):
    """As clattn_view_label."""
    page, _ = bench.open("pair")
    for text, want in (("", "∅"), (" ", "·"), (" the", "the"), ("  a", "··a"),
                       ("a b", "a·b"), ("\n", "↵"), ("\r\n", "↵"),
                       (" \t", "·→"), ("\u2028", "↵"), ("\u00a0x", "·x"),
                       ("\x07", "\ufffd"), ("\u202eabc", "\ufffdabc"),
                       ("##ing", "##ing"), ("a\u200db", "a\u200db")):
        assert page.js("return Tokens.label(arguments[0])", text) == want, text


def test_policy(bench):
    page, _ = bench.open("pair")
    # A script without the nonce does not run, a handler in a text neither, and
    # no request leaves.
    page.js("""
      const script = document.createElement('script');
      script.textContent = 'window.pwned = 1';
      document.body.append(script);
      const image = document.createElement('div');
      image.setAttribute('onclick', 'window.pwned = 2');
      document.body.append(image);
      image.click();""")
    blocked = page.driver.execute_async_script("""
      const done = arguments[0];
      fetch('https://example.invalid/').then(() => done('sent'),
                                             () => done('blocked'));""")
    assert blocked == "blocked"
    assert page.js("return window.pwned") is None
    page.collect()
    refused = [text for text in page.errors
               if "Content Security Policy" in text]
    assert len(refused) >= 3, page.errors
    page.errors.clear()
    page.requests = [url for url in page.requests
                     if "example.invalid" not in url]


def test_two_pages_have_two_nonces(bench):
    nonces = set()
    for name in ("pair", "causal"):
        bench.open(name)
        with open(bench.known[name][0], encoding="utf-8") as file:
            text = file.read()
        nonces |= set(re.findall(r'nonce="([^"]*)"', text))
    assert len(nonces) == 2 and min(map(len, nonces)) >= 22, nonces


def test_no_request_leaves(bench):
    """Of all pages that were opened so far."""
    page, _ = bench.open("pair")
    page.collect()
    assert len(page.requests) > 0
    away = [url for url in page.requests if not is_local(url)]
    assert not away, away


def test_page_of_a_broken_file(bench):
    """A block that is too short is said, and does not break the page."""
    bench.open("pair")
    path, file, _ = bench.known["pair"]
    with open(path, encoding="utf-8") as opened:
        text = opened.read()
    short = re.sub(r'(id="d-0-0-1-query">).{16}', r"\1", text)
    assert short != text
    broken = path.replace(".html", "-broken.html")
    with open(broken, "w", encoding="utf-8") as opened:
        opened.write(short)
    page = bench.page
    page.open(broken, "view=matrix")
    page.set(layer=1)
    assert "d-0-0-1-query" in page.text("note"), page.text("note")
    page.set(layer=2)
    assert "d-0-0-1-query" not in page.text("note")
