"""The page of `clattn view --html` in headless Chromium (scripts/check_browser.sh).

    check_page.py BUILD [PATTERN]

Attention files are made by attention_files.py, pages of them by libclattn_view of
BUILD, and what the pages say is compared with expected.py, which is numpy. Exit
status 0: all as expected."""

import inspect
import os
import sys
import tempfile
import time
import traceback

import attention_files as files
import test_controls
import test_gestures
import test_heads_in_numbers
import test_large
import test_numbers
import test_safety
import test_strip
import test_views
from browser import Library, Page, start

MODULES = (test_numbers, test_views, test_gestures, test_controls, test_safety,
           test_heads_in_numbers, test_strip, test_large)


class Bench:
    """What the tests share: pages of attention files, and a browser."""

    def __init__(self, build, folder):
        self.library = Library(build)
        self.folder = folder
        self.downloads = os.path.join(folder, "downloads")
        os.mkdir(self.downloads)
        self.known = {}
        self.driver = start(self.downloads)
        self.page = Page(self.driver, self.downloads)

    def open(self, name, state="", make=None, second=None, **options):
        """Opens the page of a file of attention_files; returns (page, file)."""
        if name not in self.known:
            made = [make or getattr(files, name + "_file")()]
            if second:
                made.append(second)
            paths = []
            for i, file in enumerate(made):
                paths.append(os.path.join(self.folder, f"{name}-{i}"))
                file.write(paths[-1])
            path = os.path.join(self.folder, name + ".html")
            size = self.library.write_page(paths, path, **options)
            self.known[name] = (path, made, size)
        path, made, self.size = self.known[name]
        self.page.open(path, state)
        return self.page, made[0] if second is None and len(made) == 1 else made


def tests(pattern):
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and pattern in name:
                yield name, function


def main(build, pattern=""):
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(build, folder)
        try:
            for name, function in tests(pattern):
                begun = time.monotonic()
                try:
                    function(bench)
                    bench.page.collect()
                    assert not bench.page.errors, bench.page.errors
                    said = "ok"
                except Exception:  # the next test has its own page
                    traceback.print_exc()
                    said, failed = "FAILED", failed + 1
                bench.page.errors.clear()
                print(f"{said:7}{time.monotonic() - begun:6.2f} s  {name}",
                      flush=True)
        finally:
            bench.driver.quit()
    print(f"{failed} failed" if failed else "all as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
