/* test_view_picture.c - pictures: their pixels are the palette's colours of the
 * weights. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clattn_view.h"
#include "harness.h"
#include "view_case.h"

#ifdef VIEW_PICTURES
#  include <cairo.h>
#endif

#define HAS(name) (1u << CLATTN_ATTENTION_##name)

static const view_case encoder = {.kind = CLATTN_ATTENTION_ENCODER,
                                  .layers = 2,
                                  .heads = 2,
                                  .n = 3,
                                  .has = HAS(WEIGHTS)};

typedef struct folder {
  char name[40], path[64];
} folder;

static folder make_folder(const char *file) {
  folder f = {.name = "/tmp/clattn-picture-XXXXXX"};
  cr_assert(mkdtemp(f.name) != NULL);
  snprintf(f.path, sizeof f.path, "%s/%s", f.name, file);
  return f;
}

/* Removes it; how many files there were. */
static int clean(const folder *f) {
  int n = 0;
  DIR *listing = opendir(f->name);
  cr_assert(listing != NULL);
  for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    char path[400];
    snprintf(path, sizeof path, "%s/%s", f->name, entry->d_name);
    if (unlink(path) != 0) rmdir(path);
    n++;
  }
  closedir(listing);
  rmdir(f->name);
  return n;
}

static void expect_error(const clattn_attention *a,
                         const clattn_view_options *options,
                         const clattn_view_picture_options *picture,
                         const char *path, clattn_status want,
                         const char *message) {
  const clattn_status got = clattn_view_picture(a, options, picture, path);
  cr_expect_eq(got, want, "want %s, got %s", message, clattn_error_message());
  cr_expect_not_null(strstr(clattn_error_message(), message),
                     "want \"%s\", got \"%s\"", message,
                     clattn_error_message());
}

/* What is wrong is found with and without cairo. */
Test(view_picture, arguments) {
  clattn_attention *a = view_case_open(&encoder);
  const clattn_status bad = CLATTN_INVALID_ARGUMENT;
  const folder f = make_folder("a.png");
  expect_error(NULL, NULL, NULL, f.path, bad, "attention: got NULL");
  expect_error(a, NULL, NULL, NULL, bad, "path: got NULL");
  expect_error(a, NULL, NULL, "", bad, "path: got \"\"");
  clattn_view_picture_options p;
  clattn_view_picture_options_init(&p);
  const double scales[] = {0, -1, NAN, INFINITY, 21};
  for (int i = 0; i < 5; i++) {
    p.scale = scales[i];
    expect_error(a, NULL, &p, f.path, bad, "picture->scale: got ");
  }
  p.struct_size = 3;
  expect_error(a, NULL, &p, f.path, bad, "picture->struct_size: got 3");
  clattn_view_options o;
  clattn_view_options_init(&o);
  o.kind = CLATTN_VIEW_TABLE;
  expect_error(a, &o, NULL, f.path, bad, "options->kind: got TABLE");
  clattn_view_options_init(&o);
  o.head = 2;
  expect_error(a, &o, NULL, f.path, bad, "options->head: got 2");
  clattn_view_options_init(&o);
  o.scale = (clattn_view_scale)3;
  expect_error(a, &o, NULL, f.path, bad, "options->scale: got 3");
  expect_error(a, NULL, NULL, "a.jpg", bad, "path: got a.jpg, want a name");
  expect_error(a, NULL, NULL, "png", bad, "path: got png, want a name");
  if (!clattn_view_has_pictures())
    expect_error(a, NULL, NULL, f.path, CLATTN_UNSUPPORTED, "cairo");
  cr_expect_eq(clean(&f), 0, "a file was left");
  clattn_attention_destroy(a);
}

#ifdef VIEW_PICTURES

/* fontconfig keeps what it has read until the program ends, in a way that
 * LeakSanitizer does not see through. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(
    void);
const char *__lsan_default_suppressions(void) { return "leak:libfontconfig\n"; }
__attribute__((visibility("default"))) const char *__lsan_default_options(void);
const char *__lsan_default_options(void) { return "print_suppressions=0"; }

/* ---- pixels ------------------------------------------------------------------- */

typedef struct image {
  cairo_surface_t *surface;
  const unsigned char *bytes;
  int width, height, stride;
} image;

static image load(const char *path) {
  image i = {.surface = cairo_image_surface_create_from_png(path)};
  cr_assert_eq(cairo_surface_status(i.surface), CAIRO_STATUS_SUCCESS);
  i.bytes = cairo_image_surface_get_data(i.surface);
  i.width = cairo_image_surface_get_width(i.surface);
  i.height = cairo_image_surface_get_height(i.surface);
  i.stride = cairo_image_surface_get_stride(i.surface);
  return i;
}

static image draw(const clattn_attention *a, const clattn_view_options *options,
                  double scale, bool dark) {
  const folder f = make_folder("a.png");
  clattn_view_picture_options p;
  clattn_view_picture_options_init(&p);
  p.scale = scale;
  p.dark = dark;
  TH_OK(clattn_view_picture(a, options, &p, f.path));
  const image i = load(f.path);
  cr_expect_eq(clean(&f), 1, "more than the picture was left");
  return i;
}

static uint32_t pixel(const image *i, int x, int y) {
  const uint32_t *row =
      (const uint32_t *)(const void *)(i->bytes +
                                       (size_t)y * (size_t)i->stride);
  return row[x] & 0xffffff;
}

static uint32_t color_of(double place) {
  uint8_t rgb[3];
  clattn_kit_color(place, rgb);
  return (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
}

/* How much of an image has a colour, and where: the least box around what is left
 * of x `right`. */
typedef struct area {
  int pixels, left, right, top, bottom;
} area;

static area find(const image *i, uint32_t color, int right) {
  area a = {0, i->width, -1, i->height, -1};
  for (int y = 0; y < i->height; y++)
    for (int x = 0; x < right && x < i->width; x++) {
      if (pixel(i, x, y) != color) continue;
      a.pixels++;
      if (x < a.left) a.left = x;
      if (x > a.right) a.right = x;
      if (y < a.top) a.top = y;
      if (y > a.bottom) a.bottom = y;
    }
  return a;
}

/* Where the colour bar begins, 12 units wide: the brightest colour is its, too. */
static int bar_left(const image *i, int scale) {
  for (int x = i->width - 1; x >= 0; x--)
    for (int y = 0; y < i->height; y++)
      if (pixel(i, x, y) == color_of(1)) return x - 12 * scale;
  return 0;
}

static double largest(const view_case *c, bool all) {
  double high = 0;
  for (int64_t l = 0; l < c->layers; l++)
    for (int64_t h = 0; h < c->heads; h++)
      for (int64_t i = 0; i < c->n; i++)
        for (int64_t j = 0; j < c->n; j++)
          if (all || (l == 1 && h == 1))
            high = fmax(high, view_case_weight(c, l, h, i, j));
  return high;
}

/* Every cell is where it belongs, has its weight's colour, and is as large as all
 * others: seams or smoothing would take pixels off. */
Test(view_picture, head_has_the_colors_of_weights) {
  const bool causal[] = {false, true};
  for (int k = 0; k < 2; k++)
    for (int dark = 0; dark < 2; dark++) {
      view_case c = encoder;
      if (causal[k]) c.kind = CLATTN_ATTENTION_DECODER;
      clattn_attention *a = view_case_open(&c);
      clattn_view_options o;
      clattn_view_options_init(&o);
      o.layer = 1;
      o.head = 1;
      const image i = draw(a, &o, 3, dark);
      const double high = largest(&c, false);
      area first = {0};
      for (int64_t row = 0; row < 3; row++)
        for (int64_t key = 0; key < 3; key++) {
          if (!view_case_sees(&c, row, key)) continue;
          const double w = view_case_weight(&c, 1, 1, row, key);
          /* Of equal colours (of a causal row's 1) the first is looked at. */
          if (causal[k] && row != 2) continue;
          const area got = find(&i, color_of(w / high), bar_left(&i, 3));
          if (key == 0 && row == (causal[k] ? 2 : 0)) first = got;
          const int from = causal[k] ? 2 : 0;
          cr_expect_eq(got.right - got.left + 1, 120, "%d, %d: %d to %d",
                       (int)row, (int)key, got.left, got.right);
          cr_expect_eq(got.bottom - got.top + 1, 120, "%d, %d: %d to %d",
                       (int)row, (int)key, got.left, got.right);
          cr_expect_eq(got.left, first.left + 120 * (int)key);
          cr_expect_eq(got.top, first.top + 120 * ((int)row - from));
          cr_expect_gt(got.pixels, 120 * 120 * 8 / 10, "%d, %d: %d pixels",
                       (int)row, (int)key, got.pixels);
        }
      /* What is not seen is the ground. */
      if (causal[k])
        cr_expect_eq(pixel(&i, first.left + 300, first.top - 180),
                     pixel(&i, 0, 0));
      cairo_surface_destroy(i.surface);
      clattn_attention_destroy(a);
    }
}

/* Means of all heads, too. */
Test(view_picture, head_is_the_mean) {
  clattn_attention *a = view_case_open(&encoder);
  const image i = draw(a, NULL, 3, false);
  double mean[9], high = 0;
  for (int j = 0; j < 9; j++) {
    mean[j] = (view_case_weight(&encoder, 1, 0, j / 3, j % 3) +
               view_case_weight(&encoder, 1, 1, j / 3, j % 3)) /
              2;
    high = fmax(high, mean[j]);
  }
  for (int j = 0; j < 9; j++) { /* 120 x 120, less the number in it */
    const area got = find(&i, color_of(mean[j] / high), bar_left(&i, 3));
    cr_expect_gt(got.pixels, 12000, "cell %d: %d pixels", j, got.pixels);
  }
  cairo_surface_destroy(i.surface);
  clattn_attention_destroy(a);
}

/* Cells of all heads by the largest weight of all. */
Test(view_picture, grid_is_on_one_scale) {
  clattn_attention *a = view_case_open(&encoder);
  clattn_view_options o;
  clattn_view_options_init(&o);
  o.kind = CLATTN_VIEW_GRID;
  const double high = largest(&encoder, true);
  for (int root = 0; root < 2; root++) {
    if (root) o.scale = CLATTN_VIEW_ROOT;
    const image i = draw(a, &o, 3, false);
    for (int64_t n = 0; n < 36; n++) {
      const double w =
          view_case_weight(&encoder, n / 18, n / 9 % 2, n / 3 % 3, n % 3);
      const double place = root ? sqrt(w / high) : w / high;
      const area got = find(&i, color_of(place), bar_left(&i, 3));
      cr_expect_gt(got.pixels, 96 * 96 - 1, "root %d, cell %d: %d pixels", root,
                   (int)n, got.pixels);
    }
    cairo_surface_destroy(i.surface);
  }
  clattn_attention_destroy(a);
}

/* Bars are as high as weights. */
Test(view_picture, token_has_bars) {
  clattn_attention *a = view_case_open(&encoder);
  clattn_view_options o;
  clattn_view_options_init(&o);
  o.kind = CLATTN_VIEW_TOKEN;
  o.row = 1;
  const image i = draw(a, &o, 1, false);
  double sum = 0, high = 0;
  for (int64_t n = 0; n < 12; n++) {
    const double w = view_case_weight(&encoder, n / 6, n / 3 % 2, 1, n % 3);
    sum += w;
    high = fmax(high, w);
  }
  /* A panel is 72 units wide and 44 high, a bar one narrower than its share. */
  const double want = sum / high * 44 * (72.0 / 3 - 1);
  const area got = find(&i, 0x217d8c, i.width);
  cr_expect(fabs(got.pixels - want) < 12 * 24 * 1.5 + 4 * 72, "got %d, want %g",
            got.pixels, want);
  cairo_surface_destroy(i.surface);
  clattn_attention_destroy(a);
}

/* What is written below fits, however few heads there are. */
Test(view_picture, token_says_its_height) {
  view_case c = encoder;
  c.layers = c.heads = 1;
  clattn_attention *a = view_case_open(&c);
  clattn_view_options o;
  clattn_view_options_init(&o);
  o.kind = CLATTN_VIEW_TOKEN;
  o.title = "x"; /* narrow */
  const image i = draw(a, &o, 1, false);
  cr_expect_gt(i.width, 250);
  int marks = 0; /* in the margin, 24 units wide */
  for (int y = 0; y < i.height; y++)
    for (int x = i.width - 24; x < i.width; x++)
      marks += pixel(&i, x, y) != 0xffffff;
  cr_expect_eq(marks, 0, "%d pixels in the margin", marks);
  cairo_surface_destroy(i.surface);
  clattn_attention_destroy(a);
}

/* Of many tokens each cell is a pixel at least, of very many a block. */
Test(view_picture, sizes_follow_the_content) {
  int before = 0;
  const int64_t counts[] = {2, 8, 60, 200, 600};
  for (int k = 0; k < 5; k++) {
    view_case c = {.kind = CLATTN_ATTENTION_ENCODER,
                   .layers = 1,
                   .heads = 1,
                   .n = counts[k],
                   .map_block = 10,
                   .has = k < 4 ? HAS(WEIGHTS) : HAS(MAP)};
    if (k == 4) c.n = 300; /* in 30 blocks */
    clattn_attention *a = view_case_open(&c);
    const image i = draw(a, NULL, 1, false);
    cr_expect(i.width > 150 && i.width < 1800, "%d tokens: %d wide", (int)c.n,
              i.width);
    cr_expect(k == 4 || i.height > before, "%d tokens: %d high", (int)c.n,
              i.height);
    before = i.height;
    cairo_surface_destroy(i.surface);
    clattn_attention_destroy(a);
  }
}

/* ---- files ----------------------------------------------------------------------- */

static char *read_text(const char *path) {
  FILE *file = fopen(path, "rb");
  cr_assert(file != NULL);
  char *text = calloc(1, 1 << 22);
  const size_t n = fread(text, 1, (1 << 22) - 1, file);
  cr_assert(n > 0);
  fclose(file);
  return text;
}

/* Letters are outlines, so a token is no markup; nothing is fetched. */
Test(view_picture, svg_of_hostile_tokens) {
  static const char *const texts[3] = {"</svg><script>alert(1)</script>",
                                       "\x1b[31m\u202e\t\n", "漢字"};
  view_case c = encoder;
  c.texts = texts;
  clattn_attention *a = view_case_open(&c);
  for (int kind = 0; kind < 3; kind++) {
    const folder f = make_folder("a.svg");
    clattn_view_options o;
    clattn_view_options_init(&o);
    o.kind = (clattn_view_kind)kind;
    o.title = "<title> & \xff\x01\n";
    TH_OK(clattn_view_picture(a, &o, NULL, f.path));
    char *text = read_text(f.path);
    cr_expect(strncmp(text, "<?xml", 5) == 0);
    cr_expect_not_null(strstr(text, "</svg>"));
    cr_expect_null(strstr(text, "<script"));
    cr_expect_null(strstr(text, "<title"));
    for (const char *at = text; (at = strstr(at, "href=\"")) != NULL; at++)
      cr_expect(at[6] == '#' || strncmp(at + 6, "data:", 5) == 0,
                "fetches %.40s", at);
    free(text);
    cr_expect_eq(clean(&f), 1);
  }
  clattn_attention_destroy(a);
}

Test(view_picture, files_are_replaced_as_a_whole) {
  clattn_attention *a = view_case_open(&encoder);
  folder f = make_folder("a.png");
  FILE *old = fopen(f.path, "w");
  cr_assert(old != NULL && fputs("old", old) >= 0 && fclose(old) == 0);
  /* Too large: the old file stays. */
  view_case wide = encoder;
  wide.layers = 60;
  clattn_attention *tall = view_case_open(&wide);
  clattn_view_options o;
  clattn_view_options_init(&o);
  o.kind = CLATTN_VIEW_GRID;
  clattn_view_picture_options p;
  clattn_view_picture_options_init(&p);
  p.scale = 20;
  expect_error(tall, &o, &p, f.path, CLATTN_INVALID_ARGUMENT,
               "picture->scale: got 20, want at most ");
  char *text = read_text(f.path);
  cr_expect_str_eq(text, "old");
  free(text);
  TH_OK(clattn_view_picture(a, NULL, NULL, f.path));
  const image i = load(f.path);
  cairo_surface_destroy(i.surface);
  cr_expect_eq(clean(&f), 1, "a temporary file was left");

  expect_error(a, NULL, NULL, "/nonexistent/a.svg", CLATTN_IO_ERROR,
               "/nonexistent/a.svg: ");
  /* A folder cannot be replaced. */
  f = make_folder("folder.svg");
  cr_assert_eq(mkdtemp(f.name) == NULL, true);
  char inner[80];
  snprintf(inner, sizeof inner, "mkdir -p %s/keep", f.path);
  cr_assert_eq(system(inner), 0);
  expect_error(a, NULL, NULL, f.path, CLATTN_IO_ERROR, f.path);
  snprintf(inner, sizeof inner, "rmdir %s/keep", f.path);
  cr_assert_eq(system(inner), 0);
  cr_expect_eq(clean(&f), 1, "a temporary file was left");
  clattn_attention_destroy(tall);
  clattn_attention_destroy(a);
}

#endif
