"""Chromium, driven: opens pages from disk, points at them, reads what they say."""

import ctypes
import os
import re
import shutil
import time
from urllib.parse import urlparse

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

WAIT_SECONDS = 20
LOCAL = {"file", "data", "blob", "about", "chrome"}


class HtmlOptions(ctypes.Structure):
    """clattn_view_html_options"""
    _fields_ = [("struct_size", ctypes.c_size_t), ("title", ctypes.c_char_p),
                ("state", ctypes.c_char_p),
                ("names", ctypes.POINTER(ctypes.c_char_p)),
                ("progress", ctypes.c_void_p),
                ("progress_user", ctypes.c_void_p)]


class Library:
    """clattn_view_html of a build."""

    def __init__(self, build):
        # The first two are found by the third; here for their functions.
        self.core = ctypes.CDLL(os.path.join(build, "libclattn.so"))
        self.kit = ctypes.CDLL(os.path.join(build, "libclattn_kit.so"))
        self.view = ctypes.CDLL(os.path.join(build, "libclattn_view.so"))
        self.core.clattn_error_message.restype = ctypes.c_char_p

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.core.clattn_error_message().decode())

    def write_page(self, files, path, title=None, state=None):
        """Returns the page's bytes."""
        runs = (ctypes.c_void_p * len(files))()
        options = HtmlOptions()
        self.view.clattn_view_html_options_init(ctypes.byref(options))
        options.title = title.encode() if title else None
        options.state = state.encode() if state else None
        try:
            for i, file in enumerate(files):
                opened = ctypes.c_void_p()
                self.check(self.kit.clattn_attention_open(
                    file.encode(), ctypes.byref(opened)))
                runs[i] = opened.value
            size = ctypes.c_size_t()
            self.check(self.view.clattn_view_html(
                runs, ctypes.c_size_t(len(files)), ctypes.byref(options),
                path.encode(), ctypes.byref(size)))
            assert size.value == os.path.getsize(path)
            return size.value
        finally:
            for run in runs:
                self.kit.clattn_attention_destroy(ctypes.c_void_p(run))


def start(folder, width=1400, height=900):
    options = Options()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu",
                     "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--force-device-scale-factor=1",
                     f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {
        "download.default_directory": folder,
        "download.prompt_for_download": False})
    options.set_capability("goog:loggingPrefs",
                           {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")),
                              options=options)
    driver.set_script_timeout(60)
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {
        "behavior": "allow", "downloadPath": folder})
    return driver


class Page:
    """An open page."""

    def __init__(self, driver, folder):
        self.driver, self.folder = driver, folder
        self.requests, self.errors = [], []

    def open(self, path, state=""):
        self.collect()
        # Another hash alone would not load the page anew.
        self.driver.get("about:blank")
        self.driver.get("file://" + path + ("#" + state if state else ""))
        self.settle()

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, what):
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        self.collect()
        raise AssertionError(f"waited in vain for {what}; {self.errors}")

    def settle(self):
        """Until all that was asked for is drawn."""
        self.wait(lambda: self.js(
            "return document.documentElement.dataset.ready > 0"),
            "the first drawing")
        # The store tells in one frame of the screen, what it needs is computed,
        # and drawn in that or the next.
        self.driver.execute_async_script("""
          const done = arguments[arguments.length - 1];
          let quiet = 0, last = null;
          const step = () => requestAnimationFrame(() => {
            const {ready} = document.documentElement.dataset;
            quiet = Attention.busy() || ready !== last ? 0 : quiet + 1;
            last = ready;
            if (quiet < 2) step(); else done();
          });
          step();""")

    def state(self, name):
        return self.js(f"return App.page.store.get().{name}")

    def set(self, **change):
        self.js("App.page.store.set(arguments[0])", change)
        self.settle()

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.js("return document.getElementById(arguments[0])"
                       ".textContent", name).strip()

    def click(self, name):
        self.find(name).click()
        self.settle()

    def choose(self, name, value):
        """Of a select."""
        self.js("""const element = document.getElementById(arguments[0]);
          element.value = arguments[1];
          element.dispatchEvent(new Event('input', {bubbles: true}));
          element.dispatchEvent(new Event('change', {bubbles: true}));""",
                name, str(value))
        self.settle()

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def hover(self, name, x, y):
        """Moves the pointer to a place of an element, from its upper left."""
        box = self.js("""const e = document.getElementById(arguments[0]);
          const box = e.getBoundingClientRect();
          return [box.left, box.top];""", name)
        actions = ActionChains(self.driver, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(
            round(box[0] + x), round(box[1] + y))
        actions.perform()
        self.settle()

    def press(self):
        actions = ActionChains(self.driver, duration=0)
        actions.click().perform()
        self.settle()

    def frame(self, **query):
        """A frame as the page has it: values [rows, keys], and the rest."""
        run, part = query.pop("run", 0), query.pop("part", 0)
        made = self.driver.execute_async_script("""
          const done = arguments[arguments.length - 1];
          const part = App.page.data.runs[arguments[0]].parts[arguments[1]];
          Attention.frame(part, arguments[2]).then(frame => done({
            n: frame.rows.n, m: frame.keys.n, low: frame.low,
            high: frame.high, what: frame.what, note: frame.note,
            labels: frame.keys.labels, rows: frame.rows.labels,
            values: Array.from(frame.values, String),
            summary: Attention.summary(frame, part.cross),
          }), error => done(String(error)));""", run, part, query)
        assert isinstance(made, dict), made
        made["values"] = np.array(
            [float(text.replace("Infinity", "inf")) for text in
             made["values"]]).reshape(made["n"], made["m"])
        return made

    def collect(self):
        """Takes over what the browser has logged."""
        for entry in self.driver.get_log("browser"):
            self.errors.append(entry["message"])
        for entry in self.driver.get_log("performance"):
            found = re.search(r'"method":"Network.requestWillBeSent"',
                              entry["message"])
            if not found:
                continue
            for url in re.findall(r'"url":"([^"]*)"', entry["message"]):
                self.requests.append(url)

    def downloaded(self, ending):
        """The path of a file that was saved, and is whole."""
        def whole():
            names = [name for name in os.listdir(self.folder)
                     if name.endswith(ending)]
            return os.path.join(self.folder, names[0]) if names else None
        path = self.wait(whole, f"a saved {ending}")
        self.wait(lambda: os.path.getsize(path) > 0, f"bytes of {path}")
        return path


def is_local(url):
    return urlparse(url).scheme in LOCAL


__all__ = ["Library", "Page", "start", "is_local", "Keys"]
