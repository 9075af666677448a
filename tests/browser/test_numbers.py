"""Frames of the page beside numpy: stages, temperatures, aggregates, axes."""

import numpy as np

import attention_files as files
import expected

TOLERANCE = 2e-6  # F32 storage of sums in double, of queries and keys in F32


def close(got, want, tolerance=TOLERANCE):
    """Equal where not finite, near elsewhere: relative to the largest."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    finite = np.isfinite(want)
    assert (np.isfinite(got) == finite).all()
    assert ((got == want) | np.isnan(want))[~finite].all()
    if finite.any():
        scale = max(1, np.abs(want[finite]).max())
        error = np.abs(got[finite] - want[finite]).max()
        assert error <= tolerance * scale, (error, scale)


def same(page, part, run=0, index=0, words=False, hide=False, segments=None,
         wordpiece=False, **query):
    """A frame of the page and of numpy."""
    got = page.frame(run=run, part=index, hideAdded=hide, mergeWords=words,
                     rowSegment=segments and segments[0],
                     keySegment=segments and segments[1], **query)
    want = expected.frame(part, hide, words, segments or (None, None),
                          wordpiece, **query)
    close(got["values"], want)
    finite = want[np.isfinite(want)]
    close(got["high"], finite.max())
    if query.get("stage", "softmax") == "softmax":
        assert got["what"] == "weight" and got["low"] == 0
    else:
        assert got["what"] == "score"
        close(got["low"], finite.min())
    return got


def test_stages_of_every_head(bench):
    page, file = bench.open("causal")
    part = file.parts[0]
    for layer in range(part.layers):
        for head in range(part.heads):
            for stage in ("raw", "scaled", "masked", "softmax"):
                got = same(page, part, layer=layer, head=head, stage=stage)
                assert got["note"] == ""


def test_window(bench):
    page, file = bench.open("window", make=files.causal_file(window=5))
    part = file.parts[0]
    for stage in ("masked", "softmax"):
        same(page, part, layer=1, head=4, stage=stage)
    same(page, part, layer=1, aggregate="rollout")


def test_recorded_weights_and_what_they_lack(bench):
    page, file = bench.open("recorded", make=files.causal_file(
        record=("attention",)))
    part = file.parts[0]
    for temperature in (0.3, 1.0, 4.0):
        same(page, part, layer=1, head=2, temperature=temperature)
    same(page, part, layer=1, aggregate="rollout", temperature=0.5)
    got = page.frame(layer=1, head=2, stage="raw")
    assert got["what"] == "weight" and "not known" in got["note"]
    can = page.js("return Attention.stages(App.page.data.runs[0].parts[0])")
    assert can["softmax"] is True and "no queries" in can["raw"]


def test_f32_weights(bench):
    page, file = bench.open("single", make=files.causal_file(
        record=("attention",), dtype=np.float32))
    for head in range(6):
        same(page, file.parts[0], layer=0, head=head)


def test_weights_that_scores_do_not_give(bench):
    page, file = bench.open("biased", make=files.pair_file(bias=1.5))
    part = file.parts[0]
    same(page, part, layer=2, head=1)
    same(page, part, layer=2, head=1, temperature=2.0)
    same(page, part, layer=2, head=1, stage="scaled")
    # Said above every view, whatever the stage.
    for view in ("heads", "model", "matrix", "neurons"):
        page.set(view=view)
        note = page.text("note")
        assert "query and key do not give them" in note, note
        assert "the scale is not 0.25" in note, note
    recorded = page.js("return App.page.data.runs[0].parts[0].weights")
    assert recorded == "f16"
    page, _ = bench.open("pair")
    assert "do not give" not in page.text("note")


def test_temperature(bench):
    page, file = bench.open("pair")
    for temperature in (0.1, 0.5, 2.0, 10.0):
        same(page, file.parts[0], layer=1, head=2, temperature=temperature)
        same(page, file.parts[0], layer=1, aggregate="mean",
             temperature=temperature)


def test_aggregates(bench):
    page, file = bench.open("pair")
    part = file.parts[0]
    for layer in range(part.layers):
        for aggregate in ("mean", "max", "rollout"):
            same(page, part, layer=layer, aggregate=aggregate)
    for aggregate in ("mean", "max"):
        same(page, part, layer=1, aggregate=aggregate, stage="scaled")
    # Rollout of layers in falling order takes what is known of fewer.
    same(page, part, layer=1, aggregate="rollout", temperature=3.0)
    same(page, part, layer=0, aggregate="rollout", temperature=3.0)
    # A row of weights has a sum of one, rolled out too.
    got = page.frame(layer=2, aggregate="rollout")
    close(got["values"].sum(1), np.ones(part.n))


def test_hidden_tokens(bench):
    page, file = bench.open("pair")
    part = file.parts[0]
    for aggregate in ("none", "mean", "max", "rollout"):
        got = same(page, part, layer=2, head=3, hide=True,
                   aggregate=aggregate)
        close(got["values"].sum(1), np.ones(got["n"]))
        assert "[CLS]" not in got["labels"] and "[SEP]" not in got["rows"]
    same(page, part, layer=2, head=3, hide=True, stage="scaled")


def test_words(bench):
    page, file = bench.open("pair")
    part = file.parts[0]
    for hide in (False, True):
        got = same(page, part, layer=1, head=0, words=True, hide=hide,
                   wordpiece=True)
        assert "hopped" in got["labels"] and "unbelievably" in got["rows"]
        assert got["labels"].count("fence") == 1
    same(page, part, layer=1, head=0, words=True, wordpiece=True,
         stage="masked")
    page, file = bench.open("causal")
    got = same(page, file.parts[0], layer=1, head=5, words=True)
    assert got["labels"] == ["Catherine", "was", "disappointed", ";", "the",
                             "rain", "had", "begun", "↵", "Mrs", ".", "Allen",
                             "said", ":", '"', "I", "don't", "·→", "."]
    same(page, file.parts[0], layer=1, head=5, words=True, stage="masked")


def test_words_of_pieces_of_characters(bench):
    page, file = bench.open("pieces")
    for words, want in ((False, [text.strip().replace(" ", "·") for text in
                                 file.parts[0].rows.texts]),
                        (True, ["\u65e5", "\u672c", "Caf\u00e9s", "er"])):
        got = page.frame(layer=0, head=0, mergeWords=words)
        assert got["labels"] == want, got["labels"]
    # Without the text and places the pieces alone tell.
    page.js("""const {rows} = App.data.runs[0].parts[0];
               rows.sources = [null, null]; rows.begins = rows.ends = null;
               App.data.runs[0].parts[0] = Object.assign(Object.create(
                   Object.getPrototypeOf(App.data.runs[0].parts[0])),
                   App.data.runs[0].parts[0], {id: 'other'});""")
    labels = page.js("""return Tokens.axis(App.data.runs[0].parts[0], 'rows',
                                           {mergeWords: true}).labels;""")
    assert "<E6·9C><AC>" in labels, labels


def test_search_across_tokens(bench):
    page, file = bench.open("causal")
    texts = file.parts[0].rows.texts

    def find(text, **options):
        return page.js("""return Tokens.find(Tokens.axis(
            App.data.runs[0].parts[0], 'rows', arguments[1]), arguments[0]);
            """, text, options)

    def places(*names):
        return [texts.index(name) for name in names]

    assert find("isap") == places(" di", "sapp")
    assert find("DISAPPOINTED") == places(" di", "sapp", "ointed")
    assert find("the rain") == places(" the", " rain")
    assert find("don't") == places(" do", "n", "'t")
    assert find("don't", mergeWords=True) == [16]
    assert find("nothing of it") == [] and find("") == []
    page, file = bench.open("pair")
    assert find("hopped over") == [3, 4, 5]
    assert find("fence it") == []  # other sentences
    assert find("fence") == [7]


def test_what_a_row_does_not_see(bench):
    page, file = bench.open("windowed", make=files.causal_file(window=4))
    part = file.parts[0]

    def unseen(**query):
        return np.array(page.driver.execute_async_script("""
          const done = arguments[arguments.length - 1];
          Attention.frame(App.data.runs[0].parts[0], arguments[0]).then(
            ({rows, keys, unseen}) => done(rows.groups.map((_, r) =>
              keys.groups.map((_, c) => unseen(r, c)))));""", query))

    assert (unseen(layer=1, head=1) == ~part.visible()).all()
    got = unseen(layer=1, head=1, mergeWords=True)
    rows = expected.groups_of(part.rows, words=True)
    for r, row in enumerate(rows):
        for c, key in enumerate(rows):
            assert got[r, c] == ~part.visible()[np.ix_(row, key)].any()
    rolled = unseen(layer=1, aggregate="rollout")
    assert (rolled == (expected.rollout(part, 1) == 0)).all()


def test_sentence_pair(bench):
    page, file = bench.open("pair")
    for rows in (0, 1):
        for keys in (0, 1):
            for hide in (False, True):
                got = same(page, file.parts[0], layer=0, head=1,
                           segments=(rows, keys), hide=hide)
                assert got["n"] == (10, 9)[rows] - hide * (2, 1)[rows]


def test_translation(bench):
    page, file = bench.open("translation")
    for index, part in enumerate(file.parts):
        for layer in range(part.layers):
            for head in range(part.heads):
                same(page, part, index=index, layer=layer, head=head)
            same(page, part, index=index, layer=layer, aggregate="max")
    same(page, file.parts[1], index=1, layer=1, aggregate="rollout")
    got = page.frame(part=2, layer=1, aggregate="rollout")
    close(got["values"], file.parts[2].weights(1).mean(0))
    assert "rollout" in got["note"]
    same(page, file.parts[2], index=2, layer=1, head=3, hide=True)


def test_summaries(bench):
    """Of frames, and those that the library wrote for every head."""
    for name in ("pair", "causal", "translation"):
        page, file = bench.open(name)
        for index, part in enumerate(file.parts):
            written = page.js(
                "return App.page.data.runs[0].parts[arguments[0]].summary",
                index)
            for layer in range(part.layers):
                # The library's are of recorded weights, which are F16.
                exact = part.exact_weights(layer)
                for head in range(part.heads):
                    w = exact[head]
                    diagonal = [w[i, i - 1] for i in range(1, part.n)]
                    want = {"entropy": files.entropy(w).mean(),
                            "distance": files.distance(w).mean(),
                            "previous": 0 if part.cross else
                            np.mean(diagonal), "first": w[:, 0].mean()}
                    got = page.frame(part=index, layer=layer,
                                     head=head)["summary"]
                    for key, value in want.items():
                        close(got[key], value)
                        close(written[key][layer * part.heads + head], value,
                              1e-3)


def test_maps_alone(bench):
    """Neither weights nor queries: means of blocks, and the heaviest keys."""
    page, file = bench.open("mapped")
    part = file.parts[0]
    for head in range(part.heads):
        got = page.frame(layer=1, head=head)
        close(got["values"], part.block_map(1)[head])
        assert "blocks of 16" in got["note"]
    close(page.frame(layer=1, aggregate="mean")["values"],
          part.block_map(1).mean(0))
    want = np.eye(19)
    for layer in range(2):
        mean = part.block_map(layer).mean(0)
        want = (0.5 * mean + 0.5 * np.eye(19)) @ want
    close(page.frame(layer=1, aggregate="rollout")["values"], want)
    assert got["labels"][0] == "t0…t15" and got["labels"][-1] == "t288…t299"


def test_heaviest_keys_alone(bench):
    page, file = bench.open("heaviest", make=files.causal_file(
        record=("top_keys", "top_weights"), top=3))
    part = file.parts[0]
    got = page.frame(layer=1, head=4)["values"]
    w = part.exact_weights(1)[4]
    for i in range(part.n):
        order = np.argsort(-w[i], kind="stable")[:3]
        known = np.isfinite(got[i])
        for j in order:
            if w[i, j] > 0:
                assert abs(got[i, j] - w[i, j]) < TOLERANCE
        for j in range(part.n):
            if j not in order:
                # Later keys are not seen; earlier ones are not known.
                assert not known[j] or (j > i and got[i, j] == 0) or i < 3


def test_blocks_of_a_long_text(bench):
    page, file = bench.open("long")
    part = file.parts[0]
    got = page.frame(layer=1, head=1)
    assert "blocks of 3" in got["note"] and got["n"] == 500
    w = part.exact_weights(1)[1]
    want = w.reshape(500, 3, 500, 3).sum(3).mean(1)
    close(got["values"], want)
    assert got["labels"][1] == "t3…t5"


def test_largest_of_a_row(bench):
    page, file = bench.open("pair")
    w = file.parts[0].weights(1)[2]
    for i in (0, 7, 18):
        got = page.driver.execute_async_script("""
          const [i, done] = arguments;
          Attention.frame(App.page.data.runs[0].parts[0], {layer: 1, head: 2})
              .then(frame => done(Attention.top(frame, i, 5)));""", i)
        order = np.argsort(-w[i])[:5]
        assert [one["key"] for one in got] == list(order)
        close([one["value"] for one in got], w[i][order])


def test_rows_of_neurons(bench):
    page, file = bench.open("causal")
    part = file.parts[0]
    for head in (0, 5):
        got = page.js("""
          const row = Attention.row(App.page.data.runs[0].parts[0], 1,
                                    arguments[0], 9);
          const made = {};
          for (const name of Object.keys(row)) {
            made[name] = Array.from(row[name], String);
          }
          return made;""", head)
        number = {name: np.array([float(text.replace("Infinity", "inf"))
                                  for text in values])
                  for name, values in got.items() if name != "note"}
        close(number["query"], part.query[1][head, 9])
        close(number["keys"].reshape(part.m, part.dim),
              part.key[1][head // 3])
        for stage in ("raw", "scaled", "masked"):
            close(number[stage], part.scores(1, stage)[head, 9])
        close(number["softmax"], part.weights(1)[head, 9])


def test_difference(bench):
    page, (one, two) = bench.open(
        "two", make=files.pair_file(), second=files.pair_file("another", 9))
    made = page.driver.execute_async_script("""
      const done = arguments[0];
      const runs = App.page.data.runs;
      const query = {layer: 1, head: 3};
      Promise.all(runs.map(run => Attention.frame(run.parts[0], query)))
          .then(([a, b]) => {
            const frame = Attention.difference(a, b);
            done([Array.from(frame.values), frame.low, frame.high,
                  frame.what]);
          });""")
    want = one.parts[0].weights(1)[3] - two.parts[0].weights(1)[3]
    close(np.array(made[0]).reshape(want.shape), want)
    close(made[2], np.abs(want).max())
    assert made[1] == -made[2] and made[3] == "difference"


def test_difference_of_other_sizes(bench):
    page, _ = bench.open("unequal", make=files.pair_file(),
                         second=files.causal_file())
    page.set(compare="difference")
    assert "No difference" in page.text("note")
    assert page.js("return App.page.drawn.length") == 2


def test_thumbnails(bench):
    """255 sqrt(w / largest), w the largest in a cell."""
    for name, layer in (("pair", 1), ("middling", 1)):
        page, file = bench.open(name, make=name == "middling" and
                                files.large_file(100, 2, 3))
        part = file.parts[0]
        got = np.array(page.js("""
          const part = App.page.data.runs[0].parts[0];
          return Array.from(part.tensor(arguments[0], 'thumbs'));""", layer))
        w = part.exact_weights(layer)
        size = min(part.n, 32)
        edges = [i * part.n // size for i in range(size + 1)]
        cells = np.array([[w[:, a:b, c:d].max((1, 2)) for c, d in
                           zip(edges, edges[1:])] for a, b in
                          zip(edges, edges[1:])]).transpose(2, 0, 1)
        want = 255 * np.sqrt(cells / cells.max((1, 2), keepdims=True))
        assert np.abs(got.reshape(want.shape) - want).max() <= 0.51 + 0.05
