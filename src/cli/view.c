/* view.c - clattn view: what the heads of a model attend to, in the terminal, as
 * pictures, and in the browser. */
#define _POSIX_C_SOURCE 200809L
#include "view.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int view(int argc, char **argv);

const cli_command cli_view = {"view", "see what the heads attend to", view_help,
                              view};

int view_usage(const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return cli_usage(&cli_view, "%s", text);
}

bool view_ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

bool view_get_part(const clattn_attention *attention, size_t part,
                   clattn_attention_part *info) {
  clattn_attention_part_init(info);
  return view_ok(clattn_attention_get_part(attention, part, info));
}

int view_check_numbers(const view_options *o, int64_t layers, int64_t heads) {
  if (o->layer >= layers)
    return view_usage("--layer: got %lld, want 0..%lld", (long long)o->layer,
                      (long long)layers - 1);
  if (o->head >= heads)
    return view_usage("--head: got %lld, want 0..%lld or mean",
                      (long long)o->head, (long long)heads - 1);
  return CLI_OK;
}

/* Outputs are no inputs, not each other, and can be written. */
static bool outputs_ok(const view_options *o, const char *model) {
  const char *const given[] = {o->file,    o->pair_file,     o->compare,
                               o->weights, o->tokens,        o->key_tokens,
                               model,      o->compare_model, NULL};
  const char *inputs[sizeof given / sizeof *given + 4];
  size_t n = 0;
  for (size_t i = 0; i < sizeof given / sizeof *given; i++)
    if (given[i] != NULL) inputs[n++] = given[i];
  inputs[n] = NULL;
  const struct {
    const char *option, *path;
  } outputs[] = {{"--export", o->export},
                 {"--html", o->html},
                 {"--png", o->png},
                 {"--svg", o->svg}};
  for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
    if (!cli_output_file(outputs[i].option, outputs[i].path, inputs))
      return false;
    for (size_t j = 0; j < i; j++)
      if (cli_same_file(outputs[i].path, outputs[j].path)) {
        cli_error("%s: got %s, want another file than that of %s",
                  outputs[i].option, outputs[i].path, outputs[j].option);
        return false;
      }
  }
  if ((o->png != NULL || o->svg != NULL) && !clattn_view_has_pictures()) {
    cli_error("--%s: this clattn was built without cairo and Pango",
              o->png ? "png" : "svg");
    return false;
  }
  return true;
}

/* ---- the runs -------------------------------------------------------------------- */

/* Whether a file begins as safetensors do: eight bytes, the length of a header,
 * and the brace of the header. No text has such bytes. What is no regular file can
 * be read only once, and not be mapped: it is a text. */
static bool is_safetensors(const char *path) {
  unsigned char head[9];
  struct stat about;
  if (stat(path, &about) != 0 || !S_ISREG(about.st_mode)) return false;
  FILE *file = fopen(path, "rb");
  if (file == NULL) return false;
  const size_t n = fread(head, 1, sizeof head, file);
  fclose(file);
  return n == sizeof head && head[8] == '{' && head[4] == 0 && head[5] == 0 &&
         head[6] == 0 && head[7] == 0;
}

static int open_file(const char *path, view_run *run) {
  if (clattn_attention_open(path, &run->attention) != CLATTN_OK) {
    cli_error("%s%s", clattn_error_message(),
              is_safetensors(path)
                  ? "\n(--model names a model, --weights weights)"
                  : "");
    return CLI_FAILED;
  }
  const char *model = clattn_attention_model(run->attention);
  const char *slash = strrchr(path, '/');
  snprintf(run->name, sizeof run->name, "%s", model ? model : "");
  snprintf(run->where, sizeof run->where, "%s", slash ? slash + 1 : path);
  cli_clean(run->name);
  cli_clean(run->where);
  return CLI_OK;
}

/* What is looked at, as it comes together. */
typedef struct viewing {
  const view_options *o;
  char *shipped;     /* to free(); NULL: not used */
  const char *model; /* NULL: none is run */
  bool recorded;     /* FILE is a recording */
  view_text text;
  view_run runs[2];
  size_t n_runs;
} viewing;

/* A run's recording: opened if it is what was written. */
static int open_written(int status, const char *path, view_run *run) {
  if (status != CLI_OK) return status;
  return view_ok(clattn_attention_open(path, &run->attention)) ? CLI_OK
                                                               : CLI_FAILED;
}

/* Records run i into a temporary file, or the first one where it is to be kept. */
static int record(viewing *v, size_t i, const char *model, const char *device) {
  const view_options *o = v->o;
  const bool kept = i == 0 && o->export != NULL;
  char *path = kept ? NULL : view_temporary_path(i == 0 ? "first" : "second");
  const char *where = kept ? o->export : path;
  if (where == NULL) return CLI_FAILED;
  view_run *run = &v->runs[i];
  /* What F16 rounds off would hide differences, or look like some. */
  const bool compared = v->n_runs == 2;
  int status = CLI_FAILED;
  if (model != NULL)
    status = view_record(o, model, device, compared, &v->text, where, run);
  else if (view_record_weights(o, compared, where, run))
    status = CLI_OK;
  status = open_written(status, where, run);
  free(path);
  return status;
}

static int open_first(viewing *v) {
  const view_options *o = v->o;
  if (v->recorded) return open_file(o->file, &v->runs[0]);
  if (v->model == NULL) return record(v, 0, NULL, NULL);
  if (!view_text_read(o, view_is_translator(v->model), &v->text))
    return CLI_FAILED;
  return record(v, 0, v->model, o->device);
}

static int record_second(viewing *v) {
  const view_options *o = v->o;
  if (o->compare_device != NULL)
    return record(v, 1, v->model, o->compare_device);
  if (o->compare_model == NULL) return CLI_OK;
  if (v->recorded && !view_text_of(v->runs[0].attention, o->file, &v->text))
    return CLI_FAILED;
  return record(v, 1, o->compare_model, o->device);
}

/* What the second run needs, found before the first one takes its time. */
static int prepare_second(viewing *v) {
  const view_options *o = v->o;
  v->n_runs = o->compare || o->compare_model || o->compare_device ? 2 : 1;
  if (o->compare != NULL) return open_file(o->compare, &v->runs[1]);
  if (o->compare_model != NULL && access(o->compare_model, R_OK) != 0) {
    cli_error("--compare-model: %s: %s", o->compare_model, strerror(errno));
    return CLI_FAILED;
  }
  if (o->compare_device == NULL) return CLI_OK;
  clattn_context *context;
  int device;
  if (!cli_context(o->compare_device, &context, &device)) return CLI_FAILED;
  clattn_context_destroy(context);
  return CLI_OK;
}

/* A recording that is looked at is not recorded again. */
static int check_recorded(const view_options *o) {
  const bool compared = o->compare_model != NULL;
  const char *wrong = view_option_of_model(o);
  if (wrong != NULL && !compared)
    return view_usage("%s: %s is a recording: want it with a text", wrong,
                      o->file);
  if (o->model || o->text || o->pair_file || o->pair_text)
    return view_usage("%s: %s is a recording: want it with a text", wrong,
                      o->file);
  if (o->f32)
    return view_usage("--f32: %s is a recording: want it with a text", o->file);
  if (o->compare_device != NULL)
    return view_usage("--compare-device: %s is a recording: want a text",
                      o->file);
  if (o->export != NULL)
    return view_usage("--export: %s is a recording already", o->file);
  return CLI_OK;
}

/* Everything before the first run. */
static int prepare(viewing *v) {
  const view_options *o = v->o;
  struct stat about;
  if (o->file != NULL && stat(o->file, &about) == 0 && S_ISDIR(about.st_mode))
    return view_usage(
        "%s is a folder, want a text or a recording; --model=%s "
        "reads a model",
        o->file, o->file);
  if (o->file != NULL && strcmp(o->file, "-") != 0 &&
      stat(o->file, &about) != 0) {
    const int why = errno;
    char name[1024]; /* a text may be long, and have lines */
    snprintf(name, sizeof name, "%s", o->file);
    cli_clean(name);
    cli_error("%s: %s (--text=TEXT is for the text itself)", name,
              strerror(why));
    return CLI_FAILED;
  }
  if (o->file != NULL && view_foreign_array(o->file)) return CLI_FAILED;
  v->recorded = o->file != NULL && is_safetensors(o->file);
  int status = v->recorded ? check_recorded(o) : CLI_OK;
  if (status != CLI_OK) return status;
  v->model = o->model;
  if (!v->recorded && o->weights == NULL && o->model == NULL) {
    v->model = v->shipped = view_shipped_model();
    if (v->model == NULL) return CLI_FAILED;
  }
  return outputs_ok(o, v->model) ? CLI_OK : CLI_FAILED;
}

static int run(const view_options *o) {
  viewing v = {.o = o};
  const char *const outputs[] = {o->export, o->html, o->png, o->svg};
  int status = prepare(&v);
  if (status == CLI_OK)
    view_guard_begin(outputs, sizeof outputs / sizeof *outputs);
  if (status == CLI_OK &&
      ((!v.recorded && o->export == NULL) || o->compare_model ||
       o->compare_device) &&
      !view_temporary_begin())
    status = CLI_FAILED;
  if (status == CLI_OK) status = prepare_second(&v);
  if (status == CLI_OK) status = open_first(&v);
  if (status == CLI_OK) status = record_second(&v);
  view_temporary_end(); /* recordings stay mapped */
  if (status == CLI_OK) status = view_show(o, v.runs, v.n_runs);
  view_guard_end();
  for (size_t i = 0; i < 2; i++) clattn_attention_destroy(v.runs[i].attention);
  view_text_free(&v.text);
  free(v.shipped);
  return status;
}

static int view(int argc, char **argv) {
  view_options o;
  const int status = view_options_read(argc, argv, &o);
  return o.complete ? run(&o) : status;
}
