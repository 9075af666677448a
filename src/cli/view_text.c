/* view_text.c - the text that a model is to read. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "view.h"

/* What is looked at when nothing was named: how the novel begins that the shipped
 * model was trained on, and a date for models of `clattn translate`. */
static const char sentence[] =
    "No one who had ever seen Catherine Morland in her infancy would have "
    "supposed her born to be an heroine.";
static const char date[] = "3rd of March 1998";

/* A copy of `given`, or what the file has; NULL after a message. */
static char *read_one(const char *file, const char *given, size_t *n) {
  if (file != NULL) return cli_read_file(file, n);
  char *copy = strdup(given);
  if (copy == NULL) cli_error("no memory for the text");
  *n = strlen(given);
  return copy;
}

bool view_text_read(const view_options *o, bool translator, view_text *text) {
  *text = (view_text){.name = o->file ? o->file : "--text",
                      .pair_name = o->pair_text ? "--pair-text" : "--pair"};
  const char *given = o->text != NULL ? o->text : translator ? date : sentence;
  text->bytes = read_one(o->file, given, &text->n);
  if (text->bytes == NULL) return false;
  /* A line end that editors put behind the last line is none of the text. */
  if (o->file != NULL && text->n > 0 && text->bytes[text->n - 1] == '\n')
    text->n--;
  if (o->file != NULL && text->n > 0 && text->bytes[text->n - 1] == '\r')
    text->n--;
  if (o->pair_file == NULL && o->pair_text == NULL) return true;
  text->pair = read_one(o->pair_file, o->pair_text, &text->n_pair);
  return text->pair != NULL;
}

bool view_text_of(const clattn_attention *attention, const char *name,
                  view_text *text) {
  const char *own = clattn_attention_text(attention);
  const char *pair = clattn_attention_pair(attention);
  for (size_t i = 0; i < clattn_attention_parts(attention); i++) {
    clattn_attention_part part;
    clattn_attention_part_init(&part);
    if (!view_ok(clattn_attention_get_part(attention, i, &part))) return false;
    /* Then the pair is what a decoder wrote, and no second text. */
    if (part.kind == CLATTN_ATTENTION_CROSS) pair = NULL;
  }
  *text = (view_text){.name = name, .pair_name = name};
  if (own == NULL) {
    cli_error("%s: it has no text that another model could read", name);
    return false;
  }
  text->bytes = read_one(NULL, own, &text->n);
  if (pair != NULL) text->pair = read_one(NULL, pair, &text->n_pair);
  return text->bytes != NULL && (pair == NULL || text->pair != NULL);
}

void view_text_free(view_text *text) {
  free(text->bytes);
  free(text->pair);
  *text = (view_text){0};
}
