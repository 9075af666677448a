/* generate.c - clattn generate: text from a model of `clattn train`, or a
 * pre-trained one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "generate.h"
#include "sample.h"

static const char help[] =
    "Usage: clattn generate [OPTION]... MODEL [PROMPT]\n"
    "Continue a text, token by token as it is made, with a model of `clattn\n"
    "train`, or with a pre-trained one, GPT-2 or Llama: a folder with\n"
    "config.json, weights and tokenizer, or a .gguf file. Without a prompt it\n"
    "begins at a line's start.\n"
    "\n"
    "  -d, --device=NAME     cpu, gpu, opencl, a number or part of a name\n"
    "  -n, --tokens=N        how many to add (200)\n"
    "      --temperature=F   below 1 more likely ones, above 1 all (0.8);\n"
    "                        0: as --greedy\n"
    "      --top-k=N         of the N most likely alone; 0: of all (0)\n"
    "      --top-p=F         of the fewest that make up F together (1)\n"
    "  -g, --greedy          always the most likely one; not with the three\n"
    "                        above\n"
    "  -s, --seed=N          of chance (1)\n"
    "      --chat            pre-trained: the prompt is a user's message, and "
    "an\n"
    "                        answer follows (<|im_start|>user ...)\n"
    "      --dtype=TYPE      pre-trained: of the weights on the device: f32\n"
    "                        (default), f16, bf16\n"
    "      --no-cache        recompute all tokens for each new one\n"
    "      --attention       then show what the last tokens attend to; the\n"
    "                        three below imply it\n"
    "      --layer=N         whose attention: from 0 (the last)\n"
    "      --head=N          from 0 (the mean of all)\n"
    "      --rows=N          for so many tokens (8)\n"
    "      --color=WHEN      auto (default), always or never\n"
    "  -h, --help            show this\n"
    "\n"
    "A model of `clattn train` sees as many tokens as its context. When one\n"
    "more comes, the last half of them stays, with or without the cache. A\n"
    "pre-trained one ends with its end-of-text token, or when its positions\n"
    "are full.\n";

static int generate(int argc, char **argv);

const cli_command cli_generate = {"generate", "write text with a trained GPT",
                                  help, generate};

/* ---- options ------------------------------------------------------------- */

enum {
  TEMPERATURE = 256,
  TOP_K,
  TOP_P,
  CHAT,
  DTYPE,
  NO_CACHE,
  ATTENTION,
  LAYER,
  HEAD,
  ROWS,
  COLOR
};

static const struct option options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    {"tokens", required_argument, NULL, 'n'},
    {"temperature", required_argument, NULL, TEMPERATURE},
    {"top-k", required_argument, NULL, TOP_K},
    {"top-p", required_argument, NULL, TOP_P},
    {"greedy", no_argument, NULL, 'g'},
    {"seed", required_argument, NULL, 's'},
    {"chat", no_argument, NULL, CHAT},
    {"dtype", required_argument, NULL, DTYPE},
    {"no-cache", no_argument, NULL, NO_CACHE},
    {"attention", no_argument, NULL, ATTENTION},
    {"layer", required_argument, NULL, LAYER},
    {"head", required_argument, NULL, HEAD},
    {"rows", required_argument, NULL, ROWS},
    {"color", required_argument, NULL, COLOR},
    {NULL, 0, NULL, 0}};

static bool set_option(generate_options *o, int option, const char *text) {
  const cli_command *command = &cli_generate;
  switch (option) {
    case 'd':
      o->device = text;
      return true;
    case 'n':
      return cli_number(command, "--tokens", text, 0, (int64_t)1 << 40,
                        &o->tokens);
    case TEMPERATURE:
      o->chance = "--temperature";
      return cli_decimal(command, "--temperature", text, 0, 1e6,
                         &o->temperature);
    case TOP_K:
      o->chance = "--top-k";
      return cli_number(command, "--top-k", text, 0, INT32_MAX, &o->top_k);
    case TOP_P:
      o->chance = "--top-p";
      return cli_decimal(command, "--top-p", text, 0, 1, &o->top_p);
    case 'g':
      return o->greedy = true;
    case 's':
      return cli_number(command, "--seed", text, 0, UINT32_MAX, &o->seed);
    case CHAT:
      return o->chat = true;
    case DTYPE:
      return cli_dtype(command, text, &o->dtype);
    case NO_CACHE:
      return o->no_cache = true;
    case ATTENTION:
      return o->attention = true;
    case LAYER:
      o->attention = true;
      return cli_number(command, "--layer", text, 0, 1 << 12, &o->layer);
    case HEAD:
      o->attention = true;
      return cli_number(command, "--head", text, 0, 1 << 16, &o->head);
    case ROWS:
      o->attention = true;
      return cli_number(command, "--rows", text, 1, 1000, &o->rows);
    case COLOR:
      return cli_color(command, text, &o->color);
    default:
      return false;
  }
}

/* ---- writing ------------------------------------------------------------- */

bool generate_ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

/* The draw, and how fast it went. */
typedef struct speed {
  int64_t prompt, tokens;
  double prompt_seconds, seconds;
} speed;

static bool read_tokens(writer *w, const int32_t *ids, int64_t n, float *logits,
                        double *seconds) {
  const double start = cli_seconds();
  const bool done = generate_ok(w->kind->read(w, ids, n, logits));
  *seconds += cli_seconds() - start;
  w->total += n;
  return done;
}

/* The prompt's tokens, which are printed as they are read. */
static bool read_prompt(const generate_options *o, writer *w, int32_t **ids,
                        int64_t *n) {
  const bool given = o->prompt != NULL && o->prompt[0] != '\0';
  if (!w->kind->encode(o, w, ids, n)) return false;
  for (int64_t i = 0; given && !o->chat && i < *n; i++)
    generate_put(w, i > 0 ? (*ids)[i - 1] : -1, (*ids)[i]);
  fflush(stdout);
  return true;
}

/* Whether there is room for one more token in models whose window does not
 * slide. */
static bool has_room(const writer *w) {
  return w->kind == &writer_gpt || w->total < w->context;
}

static bool write_tokens(const generate_options *o, writer *w, sampler *chance,
                         float *logits, speed *s) {
  int32_t *ids = NULL;
  int64_t n;
  if (!read_prompt(o, w, &ids, &n)) {
    free(ids);
    return false;
  }
  const bool given = o->prompt != NULL && o->prompt[0] != '\0';
  int32_t before = given && !o->chat ? ids[n - 1] : -1;
  bool done = read_tokens(w, ids, n, logits, &s->prompt_seconds);
  free(ids);
  s->prompt = n;
  for (int64_t i = 0; done && i < o->tokens; i++) {
    const int32_t id = sampler_draw(chance, logits);
    if (id < 0) {
      putchar('\n');
      fflush(stdout);
      cli_error("%s: the model gives logits that are not finite", o->file);
      return false;
    }
    if (w->kind->is_end(w, id)) break;
    generate_put(w, before, id);
    /* A closed pipe or a full disk: nobody reads on. */
    if (fflush(stdout) != 0) return true;
    before = id;
    if (i + 1 == o->tokens && !o->attention) break;
    if (!has_room(w)) break;
    done = read_tokens(w, &id, 1, logits, &s->seconds);
    s->tokens++;
  }
  generate_put_rest(w);
  putchar('\n');
  return done;
}

/* Beside the text, for who waits at a terminal or measures. */
static void print_speed(const writer *w, const speed *s) {
  if (w->kind == &writer_gpt || s->tokens == 0) return;
  fflush(stdout);
  fprintf(stderr,
          "prompt: %lld tokens in %.3g s, %.0f tokens/s; then %lld in %.3g s, "
          "%.1f tokens/s\n",
          (long long)s->prompt, s->prompt_seconds,
          (double)s->prompt / s->prompt_seconds, (long long)s->tokens,
          s->seconds, (double)s->tokens / s->seconds);
}

static bool write_text(const generate_options *o, writer *w) {
  sampler chance = {
      .temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p};
  speed s = {0};
  float *logits = calloc((size_t)w->vocab, sizeof *logits);
  if (logits == NULL)
    cli_error("no memory for %lld logits", (long long)w->vocab);
  clattn_kit_rng_init(&chance.rng, (uint32_t)o->seed);
  const bool done = logits != NULL &&
                    sampler_make(&chance, (int32_t)w->vocab) &&
                    write_tokens(o, w, &chance, logits, &s);
  if (done) print_speed(w, &s);
  sampler_free(&chance);
  free(logits);
  return done;
}

/* ---- the command --------------------------------------------------------------- */

static int check_numbers(const generate_options *o, const writer *w) {
  const bool layer = o->layer >= w->layers;
  if (!layer && o->head < w->heads) return CLI_OK;
  return cli_usage(&cli_generate, "--%s: got %lld, want 0..%lld",
                   layer ? "layer" : "head",
                   (long long)(layer ? o->layer : o->head),
                   (long long)(layer ? w->layers : w->heads) - 1);
}

/* A folder or a .gguf file is a model that others trained. */
static const writer_kind *kind_of(const char *path) {
  struct stat about;
  const size_t n = strlen(path);
  const bool gguf = n > 5 && strcmp(path + n - 5, ".gguf") == 0;
  const bool folder = stat(path, &about) == 0 && S_ISDIR(about.st_mode);
  return gguf || folder ? &writer_model : &writer_gpt;
}

static int run(const generate_options *o) {
  writer w = {.kind = kind_of(o->file), .terminal = isatty(STDOUT_FILENO) == 1};
  if (w.kind == &writer_gpt && (o->chat || o->dtype != 0))
    return cli_usage(&cli_generate,
                     "--%s is for pre-trained models, a folder or a .gguf file",
                     o->chat ? "chat" : "dtype");
  int status = w.kind->load(o, &w) ? check_numbers(o, &w) : CLI_FAILED;
  if (status == CLI_OK &&
      !(write_text(o, &w) && (!o->attention || generate_show(o, &w))))
    status = CLI_FAILED;
  w.kind->destroy(&w);
  clattn_queue_destroy(w.place.queue);
  clattn_context_destroy(w.place.context);
  return status;
}

static int generate(int argc, char **argv) {
  generate_options o = {.tokens = 200,
                        .seed = 1,
                        .layer = -1,
                        .head = -1,
                        .rows = 8,
                        .temperature = 0.8,
                        .top_p = 1};
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_generate, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  if (o.greedy && o.chance != NULL)
    return cli_usage(&cli_generate,
                     "--greedy leaves nothing to chance: want it without %s",
                     o.chance);
  if (o.greedy) o.temperature = 0;
  if (argc - optind < 1 || argc - optind > 2)
    return cli_usage(&cli_generate,
                     "generate: got %d arguments, want a model and a prompt",
                     argc - optind);
  o.file = argv[optind];
  if (argc - optind == 2) o.prompt = argv[optind + 1];
  if (o.chat && o.prompt == NULL)
    return cli_usage(&cli_generate, "--chat: want a prompt to answer");
  return run(&o);
}
