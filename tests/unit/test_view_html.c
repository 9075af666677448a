/* test_view_html.c - the file of clattn_view_html: what is in it, and when there is
 * none. What a browser makes of it: tests/browser. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "attention_case.h"
#include "clattn_view.h"
#include "harness.h"
#include "view/page.h"
#include "view_case.h"

#define HAS(name) (1u << CLATTN_ATTENTION_##name)

/* The call gives this status, and a message that begins so. */
static void expect_error(clattn_status got, clattn_status want,
                         const char *message) {
  cr_expect_eq(got, want, "got %s", clattn_status_name(got));
  cr_expect_eq(strncmp(clattn_error_message(), message, strlen(message)), 0,
               "got '%s', want '%s...'", clattn_error_message(), message);
}

/* All of a file, terminated; free() is the caller's. */
static char *read_all(const char *path, size_t *n) {
  FILE *file = fopen(path, "rb");
  cr_assert(file != NULL, "%s", path);
  cr_assert_eq(fseek(file, 0, SEEK_END), 0);
  const long size = ftell(file);
  rewind(file);
  char *text = malloc((size_t)size + 1);
  cr_assert(text != NULL);
  cr_assert_eq(fread(text, 1, (size_t)size, file), (size_t)size);
  text[size] = '\0';
  fclose(file);
  *n = (size_t)size;
  return text;
}

/* The page of attention; free() is the caller's. */
static char *page_of(const clattn_attention *const *runs, size_t n_runs,
                     const clattn_view_html_options *options) {
  char path[64];
  ac_path(path);
  size_t told, size;
  TH_OK(clattn_view_html(runs, n_runs, options, path, &told));
  char *text = read_all(path, &size);
  cr_expect_eq(told, size, "got %zu, want %zu", told, size);
  cr_expect_eq(strlen(text), size, "the page has a NUL");
  ac_clean(path);
  return text;
}

static char *page_of_case(const view_case *c) {
  const clattn_attention *runs[] = {view_case_open(c)};
  char *page = page_of(runs, 1, NULL);
  clattn_attention_destroy((clattn_attention *)runs[0]);
  return page;
}

static int count(const char *text, const char *what) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, what)) != NULL; at++) n++;
  return n;
}

/* The bytes of a block; free() is the caller's. NULL: it is not there. */
static unsigned char *block(const char *page, const char *id, size_t *n) {
  char mark[80];
  snprintf(mark, sizeof mark, "id=\"%s\">", id);
  const char *at = strstr(page, mark);
  *n = 0;
  if (at == NULL) return NULL;
  at += strlen(mark);
  const size_t length = strcspn(at, "<");
  cr_assert_eq(length % 4, 0u, "%s has %zu characters", id, length);
  unsigned char *bytes = malloc(length / 4 * 3 + 1);
  cr_assert(bytes != NULL);
  static const char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  unsigned word = 0, bits = 0;
  for (size_t i = 0; i < length && at[i] != '='; i++) {
    const char *digit = strchr(digits, at[i]);
    cr_assert(digit != NULL && *digit != '\0', "%s: '%c'", id, at[i]);
    word = word << 6 | (unsigned)(digit - digits);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes[(*n)++] = (unsigned char)(word >> bits);
  }
  return bytes;
}

/* ---- parts of it ---------------------------------------------------------------- */

Test(view_html, has_its_files) { TH_OK(page_check_files()); }

Test(view_html, base64) {
  static const char *const pairs[][2] = {
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"\xff\xfe\xfd", "//79"}}; /* most of them RFC 4648's */
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    char *text = NULL;
    size_t n;
    FILE *stream = open_memstream(&text, &n);
    page_put_base64(stream, pairs[i][0], strlen(pairs[i][0]));
    cr_assert_eq(fclose(stream), 0);
    cr_expect_str_eq(text, pairs[i][1]);
    free(text);
  }
}

/* ---- what is in a page ------------------------------------------------------------ */

/* Three parts, with hostile texts, from the numbers that the tests know. */
static clattn_attention *open_parts(clattn_attention_part parts[AC_PARTS]) {
  char path[64];
  ac_path(path);
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  clattn_attention *attention;
  TH_OK(clattn_attention_open(path, &attention));
  ac_clean(path); /* it is mapped */
  return attention;
}

Test(view_html, queries_and_keys_are_those_of_the_file) {
  clattn_attention_part parts[AC_PARTS];
  const clattn_attention *runs[] = {open_parts(parts)};
  char *page = page_of(runs, 1, NULL);
  for (size_t p = 0; p < AC_PARTS; p++) {
    for (int64_t layer = 0; layer < parts[p].layers; layer++) {
      for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++) {
        const char *name = page_block_name((clattn_attention_tensor)t);
        if (name == NULL) continue;
        char id[64];
        snprintf(id, sizeof id, "d-0-%zu-%d-%s", p, (int)layer, name);
        size_t n;
        unsigned char *bytes = block(page, id, &n);
        const bool scores =
            t == CLATTN_ATTENTION_QUERY || t == CLATTN_ATTENTION_KEY;
        /* They give the weights, so nothing else is there. */
        cr_expect_eq(bytes != NULL, scores, "%s", id);
        if (bytes == NULL) continue;
        cr_expect_eq((int64_t)n,
                     4 * ac_count(&parts[p], (clattn_attention_tensor)t));
        for (size_t i = 0; i < n / 4; i++) {
          float got;
          memcpy(&got, bytes + 4 * i, 4);
          cr_expect_eq(got, (float)ac_number(p, layer, t, (int64_t)i));
        }
        free(bytes);
      }
    }
  }
  cr_expect_eq(count(page, "\"weights\":\"computed\""), 3);
  cr_expect_eq(count(page, "\"kind\":\"cross\""), 1);
  cr_expect(strstr(page, "\"window\":3") != NULL);
  cr_expect(strstr(page, "\"segments\":[0,0,0,1,1]") != NULL);
  cr_expect(strstr(page, "\"ids\":[7,-1,2147483647,0,3]") != NULL);
  free(page);
  clattn_attention_destroy((clattn_attention *)runs[0]);
}

/* Thumbnails: 255 sqrt(w / largest); of a few tokens a cell is a weight. */
Test(view_html, thumbnails_are_the_weights) {
  clattn_attention_part parts[AC_PARTS];
  const clattn_attention *runs[] = {open_parts(parts)};
  char *page = page_of(runs, 1, NULL);
  for (size_t p = 0; p < AC_PARTS; p++) {
    const int64_t rows = parts[p].rows.n, m = ac_m(&parts[p]);
    size_t n;
    char id[64];
    snprintf(id, sizeof id, "d-0-%zu-0-thumbs", p);
    unsigned char *bytes = block(page, id, &n);
    cr_assert(bytes != NULL);
    cr_assert_eq((int64_t)n, parts[p].heads * rows * m);
    for (int64_t h = 0; h < parts[p].heads; h++) {
      double w[16][16], largest = 0;
      for (int64_t i = 0; i < rows; i++) {
        ac_row(&parts[p], p, 0, h, i, w[i]);
        for (int64_t j = 0; j < m; j++) largest = fmax(largest, w[i][j]);
      }
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < m; j++)
          cr_expect_float_eq((double)bytes[(h * rows + i) * m + j],
                             255 * sqrt(w[i][j] / largest), 0.51);
    }
    free(bytes);
  }
  free(page);
  clattn_attention_destroy((clattn_attention *)runs[0]);
}

Test(view_html, weights_alone) {
  const view_case c = {.kind = CLATTN_ATTENTION_DECODER,
                       .layers = 2,
                       .heads = 3,
                       .n = 40, /* more than a thumbnail has cells */
                       .has = HAS(WEIGHTS)};
  char *page = page_of_case(&c);
  size_t n;
  unsigned char *bytes = block(page, "d-0-0-1-attention", &n);
  cr_assert(bytes != NULL);
  const bool half = strstr(page, "\"weights\":\"f16\"") != NULL;
  cr_expect(half || strstr(page, "\"weights\":\"f32\"") != NULL);
  cr_assert_eq(n, (half ? 2u : 4u) * 3 * 40 * 40);
  for (int64_t i = 0; i < 3 * 40 * 40; i++) {
    float got;
    if (half)
      TH_OK(clattn_convert(CLATTN_F16, bytes + 2 * i, CLATTN_F32, &got, 1));
    else
      memcpy(&got, bytes + 4 * i, 4);
    cr_expect_float_eq((double)got,
                       view_case_weight(&c, 1, i / 1600, i / 40 % 40, i % 40),
                       half ? 1e-3 : 1e-6);
  }
  free(bytes);
  cr_expect(strstr(page, "\"thumb\":[32,32]") != NULL);
  cr_expect(strstr(page, "\"head_dim\":0") != NULL);
  free(block(page, "d-0-0-1-thumbs", &n));
  cr_expect_eq(n, 3u * 32 * 32);
  free(page);
}

Test(view_html, weights_that_queries_do_not_give) {
  const view_case c = {.layers = 1,
                       .heads = 2,
                       .n = 4,
                       .kind = CLATTN_ATTENTION_ENCODER,
                       .bad = 0.75f,
                       .has = HAS(WEIGHTS) | HAS(QUERY) | HAS(KEY)};
  char *page = page_of_case(&c);
  size_t n;
  free(block(page, "d-0-0-0-attention", &n));
  cr_expect(n > 0);
  free(block(page, "d-0-0-0-query", &n));
  cr_expect(n > 0);
  cr_expect(strstr(page, "\"weights\":\"computed\"") == NULL);
  free(page);
}

Test(view_html, a_weight_that_is_no_number) {
  const view_case c = {.layers = 1,
                       .heads = 2,
                       .n = 4,
                       .kind = CLATTN_ATTENTION_ENCODER,
                       .bad = NAN,
                       .has = HAS(WEIGHTS) | HAS(QUERY) | HAS(KEY)};
  char *page = page_of_case(&c);
  cr_expect(strstr(page, "\"difference\":null") !=
            NULL); /* not as JSON has it */
  cr_expect(strstr(page, "\"weights\":\"computed\"") == NULL);
  free(page);
}

Test(view_html, maps_and_heaviest_keys_alone) {
  const view_case c = {.kind = CLATTN_ATTENTION_DECODER,
                       .layers = 2,
                       .heads = 2,
                       .n = 9,
                       .top = 3,
                       .map_block = 4,
                       .has = HAS(TOP_KEYS) | HAS(TOP_WEIGHTS) | HAS(MAP)};
  char *page = page_of_case(&c);
  size_t n;
  free(block(page, "d-0-0-1-map", &n));
  cr_expect_eq(n, 4u * 2 * 3 * 3);
  free(block(page, "d-0-0-1-top_keys", &n));
  cr_expect_eq(n, 4u * 2 * 9 * 3);
  cr_expect(strstr(page, "\"thumb\":[3,3]") != NULL);
  cr_expect(strstr(page, "\"weights\":\"none\"") != NULL);
  free(page);
}

Test(view_html, two_runs) {
  clattn_attention_part parts[AC_PARTS];
  const view_case c = {.layers = 1,
                       .heads = 2,
                       .n = 4,
                       .kind = CLATTN_ATTENTION_ENCODER,
                       .has = HAS(WEIGHTS)};
  const clattn_attention *runs[] = {open_parts(parts), view_case_open(&c)};
  const char *const names[] = {"the <one>", "\xe2\x80\xa8 \"other\""};
  clattn_view_html_options options;
  clattn_view_html_options_init(&options);
  options.title = "</script><!--";
  options.state = "view=matrix&search=<script>";
  options.names = names;
  char *page = page_of(runs, 2, &options);
  size_t n;
  free(block(page, "d-1-0-0-attention", &n));
  cr_expect(n > 0);
  cr_expect(strstr(page, "\"title\":\"\\u003c/script>\\u003c!--\"") != NULL);
  cr_expect(strstr(page, "\"name\":\"the \\u003cone>\"") != NULL);
  cr_expect(strstr(page, "\\u2028 \\\"other\\\"") != NULL);
  free(page);
  clattn_attention_destroy((clattn_attention *)runs[0]);
  clattn_attention_destroy((clattn_attention *)runs[1]);
}

/* Hostile texts are in the files of these tests. */
Test(view_html, no_text_ends_its_element) {
  clattn_attention_part parts[AC_PARTS];
  const clattn_attention *runs[] = {open_parts(parts)};
  char *page = page_of(runs, 1, NULL);
  const char *json = strstr(page, "id=\"clattn-data\">");
  cr_assert(json != NULL);
  json += strlen("id=\"clattn-data\">");
  const size_t length = strcspn(json, "<");
  cr_expect_eq(strncmp(json + length, "</script>", 9), 0);
  cr_expect_eq(json[length - 1], '}');
  for (size_t i = 0; i < length; i++)
    cr_assert((unsigned char)json[i] < 0x80, "byte %zu is not ASCII", i);
  /* Of every script one end. */
  cr_expect_eq(count(page, "<script "), count(page, "</script>"));
  /* No address of another place is in it but names of XML. */
  for (const char *at = page; (at = strstr(at, "://")) != NULL; at++)
    cr_expect(strncmp(at, "://www.w3.org/", 14) == 0, "%.40s", at - 5);
  cr_expect_eq(count(page, "default-src 'none'"), 1);
  free(page);
  clattn_attention_destroy((clattn_attention *)runs[0]);
}

/* ---- when there is none ------------------------------------------------------------- */

static const view_case small = {.layers = 1,
                                .heads = 1,
                                .n = 3,
                                .kind = CLATTN_ATTENTION_ENCODER,
                                .has = HAS(WEIGHTS)};

Test(view_html, arguments) {
  clattn_attention *attention = view_case_open(&small);
  const clattn_attention *runs[] = {attention, NULL};
  clattn_view_html_options options;
  clattn_view_html_options_init(&options);
  const char *const names[] = {"\xff"};
  size_t size = 7;

  expect_error(clattn_view_html(NULL, 1, NULL, "x", &size),
               CLATTN_INVALID_ARGUMENT, "runs: got NULL");
  expect_error(clattn_view_html(runs, 0, NULL, "x", &size),
               CLATTN_INVALID_ARGUMENT, "n_runs: got 0, want 1 or 2");
  expect_error(clattn_view_html(runs, 3, NULL, "x", &size),
               CLATTN_INVALID_ARGUMENT, "n_runs: got 3, want 1 or 2");
  expect_error(clattn_view_html(runs, 2, NULL, "x", &size),
               CLATTN_INVALID_ARGUMENT, "runs[1]: got NULL");
  expect_error(clattn_view_html(runs, 1, NULL, NULL, &size),
               CLATTN_INVALID_ARGUMENT, "path: got NULL");
  options.struct_size = 3;
  expect_error(clattn_view_html(runs, 1, &options, "x", &size),
               CLATTN_INVALID_ARGUMENT, "options->struct_size: got 3");
  clattn_view_html_options_init(&options);
  options.title = "\xc3";
  expect_error(clattn_view_html(runs, 1, &options, "x", &size),
               CLATTN_INVALID_ARGUMENT,
               "options->title: got a text that is not");
  options.title = NULL;
  options.names = names;
  expect_error(clattn_view_html(runs, 1, &options, "x", &size),
               CLATTN_INVALID_ARGUMENT,
               "options->names: got a text that is not");
  expect_error(clattn_view_html(runs, 1, NULL, "/nowhere/at/all", &size),
               CLATTN_IO_ERROR, "/nowhere/at/all: No such file");
  cr_expect_eq(size, 7u);
  clattn_attention_destroy(attention);
}

Test(view_html, statistics_alone_are_nothing_to_look_at) {
  view_case c = small;
  c.has = HAS(ENTROPY) | HAS(DISTANCE);
  clattn_attention *attention = view_case_open(&c);
  const clattn_attention *runs[] = {attention};
  char path[64];
  ac_path(path);
  expect_error(clattn_view_html(runs, 1, NULL, path, NULL),
               CLATTN_INVALID_ARGUMENT, "runs[0]: part");
  ac_clean(path);
  clattn_attention_destroy(attention);
}

/* A disk that takes no more: the old file stays, and nothing beside it. */
Test(view_html, a_full_disk) {
  clattn_attention *attention = view_case_open(&small);
  const clattn_attention *runs[] = {attention};
  char path[64];
  ac_path(path);
  FILE *old = fopen(path, "w");
  cr_assert(old != NULL);
  fputs("old", old);
  fclose(old);
  struct rlimit before, little;
  cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
  little = before;
  little.rlim_cur = 20000;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  cr_assert_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
  const clattn_status status = clattn_view_html(runs, 1, NULL, path, NULL);
  cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  cr_expect_eq(status, CLATTN_IO_ERROR);
  size_t n;
  char *text = read_all(path, &n);
  cr_expect_str_eq(text, "old");
  free(text);
  ac_clean(path); /* also says if something is left */
  clattn_attention_destroy(attention);
}

/* Files with a bit turned, most of them in their header: what opens makes a page or
 * an error, and the data never ends its element. */
Test(view_html, turned_bits) {
  clattn_attention_part parts[AC_PARTS];
  char path[64], page_path[80];
  ac_path(path);
  snprintf(page_path, sizeof page_path, "%s.html", path);
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  size_t n;
  char *bytes = read_all(path, &n);
  th_rng rng = {7};
  int opened = 0;
  for (int trial = 0; trial < 150; trial++) {
    const size_t room = trial % 3 ? n / 2 : n;
    const size_t at = (size_t)th_below(&rng, (int)room);
    const char bit = (char)(1 << th_below(&rng, 8));
    bytes[at] ^= bit;
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL);
    cr_assert_eq(fwrite(bytes, 1, n, file), n);
    fclose(file);
    bytes[at] ^= bit;
    clattn_attention *attention;
    if (clattn_attention_open(path, &attention) != CLATTN_OK) continue;
    opened++;
    const clattn_attention *runs[] = {attention};
    if (clattn_view_html(runs, 1, NULL, page_path, NULL) == CLATTN_OK) {
      size_t size;
      char *page = read_all(page_path, &size);
      cr_expect_eq(count(page, "<script "), count(page, "</script>"));
      free(page);
      unlink(page_path);
    }
    clattn_attention_destroy(attention);
  }
  cr_expect(opened > 20, "only %d opened", opened);
  free(bytes);
  ac_clean(path);
}

typedef struct steps {
  int64_t calls, total;
} steps;

static void step(void *user, int64_t done, int64_t total) {
  steps *s = user;
  cr_expect_eq(done, ++s->calls);
  s->total = total;
}

Test(view_html, progress) {
  clattn_attention_part parts[AC_PARTS];
  const clattn_attention *runs[] = {open_parts(parts)};
  clattn_view_html_options options;
  clattn_view_html_options_init(&options);
  steps s = {0, 0};
  options.progress = step;
  options.progress_user = &s;
  free(page_of(runs, 1, &options));
  cr_expect_eq(s.calls, 3 + 1 + 2); /* layers of all parts */
  cr_expect_eq(s.total, s.calls);
  clattn_attention_destroy((clattn_attention *)runs[0]);
}
