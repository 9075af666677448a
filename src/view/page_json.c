/* page_json.c - what a page says of its runs and parts, as JSON. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "page.h"

/* JSON has no NaN. */
static json_t *number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *text_or_null(const char *text) {
  return text != NULL ? json_string(text) : json_null();
}

static json_t *integers(const int64_t *values, int64_t n) {
  if (values == NULL) return json_null();
  json_t *array = json_array();
  for (int64_t i = 0; i < n; i++)
    json_array_append_new(array, json_integer(values[i]));
  return array;
}

static json_t *numbers32(const int32_t *values, int64_t n) {
  if (values == NULL) return json_null();
  json_t *array = json_array();
  for (int64_t i = 0; i < n; i++)
    json_array_append_new(array, json_integer(values[i]));
  return array;
}

static json_t *bytes(const uint8_t *values, int64_t n) {
  if (values == NULL) return json_null();
  json_t *array = json_array();
  for (int64_t i = 0; i < n; i++)
    json_array_append_new(array, json_integer(values[i]));
  return array;
}

/* NULL: a text that is not UTF-8, or no memory. */
static json_t *tokens(const clattn_attention_tokens *of) {
  json_t *texts = json_array();
  for (int64_t i = 0; i < of->n; i++) {
    if (json_array_append_new(texts, json_string(of->texts[i])) != 0) {
      json_decref(texts);
      return NULL;
    }
  }
  return json_pack(
      "{s:o, s:o, s:o, s:o, s:o, s:o}", "texts", texts, "ids",
      numbers32(of->ids, of->n), "begins", integers(of->begins, of->n), "ends",
      integers(of->ends, of->n), "segments", bytes(of->segments, of->n),
      "added", bytes(of->added, of->n));
}

/* [L*H] arrays of one number of each head. */
static json_t *summary(const page_part *part) {
  json_t *entropy = json_array(), *distance = json_array();
  json_t *previous = json_array(), *first = json_array();
  const int64_t n = part->info.layers * part->info.heads;
  for (int64_t i = 0; i < n; i++) {
    const clattn_attention_summary *of = &part->summaries[i];
    json_array_append_new(entropy, number(of->entropy));
    json_array_append_new(distance, number(of->distance));
    json_array_append_new(previous, number(of->previous));
    json_array_append_new(first, number(of->first));
  }
  return json_pack("{s:o, s:o, s:o, s:o, s:I}", "entropy", entropy, "distance",
                   distance, "previous", previous, "first", first, "sampled",
                   (json_int_t)part->sampled);
}

static json_t *blocks(const page_part *part) {
  json_t *array = json_array();
  for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
    if (part->blocks >> t & 1)
      json_array_append_new(
          array, json_string(page_block_name((clattn_attention_tensor)t)));
  return array;
}

static json_t *describe_part(const page_part *part) {
  const clattn_attention_part *info = &part->info;
  const bool cross = info->kind == CLATTN_ATTENTION_CROSS;
  const bool scored = part->blocks >> CLATTN_ATTENTION_QUERY & 1;
  return json_pack(
      "{s:s, s:s, s:b, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s, "
      "s:o, s:o, s:[I,I], s:o}",
      "name",
      info->name[0] != '\0' ? info->name
                            : clattn_attention_kind_name(info->kind),
      "kind", clattn_attention_kind_name(info->kind), "causal",
      (int)info->causal, "window", (json_int_t)info->window, "scale",
      number(info->scale), "layers", (json_int_t)info->layers, "heads",
      (json_int_t)info->heads, "kv_heads", (json_int_t)info->kv_heads,
      "head_dim", (json_int_t)(scored ? info->head_dim : 0), "top",
      (json_int_t)info->top, "map_block", (json_int_t)info->map_block, "rows",
      tokens(&info->rows), "keys", cross ? tokens(&info->keys) : json_null(),
      "weights", part->weights, "difference", number(part->difference), "has",
      blocks(part), "thumb", (json_int_t)part->thumb_rows,
      (json_int_t)part->thumb_keys, "summary", summary(part));
}

static json_t *describe_run(const page *page, size_t run) {
  const clattn_attention *attention = page->runs[run];
  const char *model = clattn_attention_model(attention);
  const char *const *names = page->options->names;
  json_t *parts = json_array();
  for (size_t i = 0; i < page->n_parts; i++) {
    if (page->parts[i].run != run) continue;
    if (json_array_append_new(parts, describe_part(&page->parts[i])) != 0) {
      json_decref(parts);
      return NULL;
    }
  }
  return json_pack("{s:o, s:o, s:o, s:o, s:o}", "name",
                   text_or_null(names && names[run] ? names[run] : model),
                   "model", text_or_null(model), "text",
                   text_or_null(clattn_attention_text(attention)), "pair",
                   text_or_null(clattn_attention_pair(attention)), "parts",
                   parts);
}

/* The scale of colours, at nine equal steps. */
static json_t *palette(void) {
  json_t *array = json_array();
  for (int i = 0; i <= 8; i++) {
    uint8_t rgb[3];
    clattn_kit_color(i / 8.0, rgb);
    json_array_append_new(array, json_pack("[i,i,i]", rgb[0], rgb[1], rgb[2]));
  }
  return array;
}

static json_t *describe(const page *page) {
  json_t *runs = json_array();
  for (size_t r = 0; r < page->n_runs; r++) {
    if (json_array_append_new(runs, describe_run(page, r)) != 0) {
      json_decref(runs);
      return NULL;
    }
  }
  const char *title = page->options->title;
  if (title == NULL) title = clattn_attention_model(page->runs[0]);
  const char *state = page->options->state;
  return json_pack("{s:s, s:s, s:s, s:o, s:o}", "version", clattn_version(),
                   "title", title ? title : "attention", "state",
                   state ? state : "", "palette", palette(), "runs", runs);
}

/* No text may end the element that the JSON is in, or begin a comment there. */
static int put_escaped(const char *text, size_t n, void *stream) {
  for (size_t i = 0; i < n; i++) {
    if (text[i] == '<') {
      if (fputs("\\u003c", stream) == EOF) return -1;
    } else if (putc(text[i], stream) == EOF) {
      return -1;
    }
  }
  return 0;
}

clattn_status page_put_json(FILE *stream, const page *page) {
  json_t *json = describe(page);
  if (json == NULL)
    return clattn_set_error(CLATTN_OUT_OF_MEMORY,
                            "the page's texts: no memory, or not UTF-8");
  fputs("<script type=\"application/json\" id=\"clattn-data\">", stream);
  const int failed = json_dump_callback(json, put_escaped, stream,
                                        JSON_COMPACT | JSON_ENSURE_ASCII);
  fputs("</script>\n", stream);
  json_decref(json);
  /* A stream that takes no more is told of by whoever closes it. */
  return failed != 0 && !ferror(stream) ? VIEW_OUT_OF_MEMORY("JSON")
                                        : CLATTN_OK;
}
