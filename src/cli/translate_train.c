/* translate_train.c - clattn translate --train: pairs without end, drawn anew. */
#include "translate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clattn_nn.h"

enum { HELD_OUT = 500 }; /* dates that a line measures on */

typedef struct training {
  const translate_options *options;
  translator *translator;
  clattn_seq2seq_trainer *trainer;
  clattn_kit_rng rng;
  int32_t *sources, *targets; /* [batch, max_source], [batch, max_target] */
} training;

static bool ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

static bool prepare(training *r) {
  const translate_options *o = r->options;
  const translator *t = r->translator;
  clattn_seq2seq_trainer_config config;
  clattn_seq2seq_trainer_config_init(&config);
  config.batch = o->batch;
  config.dropout_seed = (uint64_t)o->seed;
  if (!ok(clattn_seq2seq_trainer_create(t->model, t->queue, &config,
                                        &r->trainer)))
    return false;
  clattn_kit_rng_init(&r->rng, (uint32_t)o->seed);
  const size_t n = (size_t)o->batch;
  r->sources = calloc(n * (size_t)t->config.max_source, sizeof *r->sources);
  r->targets = calloc(n * (size_t)t->config.max_target, sizeof *r->targets);
  if (r->sources != NULL && r->targets != NULL) return true;
  cli_error("no memory for %zu pairs", n);
  return false;
}

static bool step(training *r, int64_t i, float *loss) {
  const translate_options *o = r->options;
  const translator *t = r->translator;
  const int64_t S = t->config.max_source, T = t->config.max_target;
  for (int64_t b = 0; b < o->batch; b++) {
    date_pair pair;
    dates_draw(&r->rng, false, &pair);
    if (!translator_encode(t, pair.source, pair.source, S,
                           r->sources + b * S) ||
        !translator_encode(t, pair.target, pair.target, T, r->targets + b * T))
      return false;
  }
  const float lr = clattn_nn_cosine_lr(i, o->steps / 20, o->steps, (float)o->lr,
                                       (float)o->lr / 20);
  return ok(clattn_seq2seq_trainer_step(r->trainer, t->queue, r->sources, S,
                                        r->targets, T, o->batch, lr, loss));
}

/* A line, and the model so far. */
static bool report(training *r, int64_t done, double loss, double seconds) {
  const translate_options *o = r->options;
  clattn_seq2seq_search greedy;
  clattn_seq2seq_search_init(&greedy);
  int64_t right;
  if (!translator_evaluate(r->translator, &greedy, (uint32_t)o->seed, HELD_OUT,
                           0, &right))
    return false;
  printf("step %lld/%lld, loss %.4f, %.1f %% of %d held-out dates right",
         (long long)done, (long long)o->steps, loss,
         100 * (double)right / HELD_OUT, HELD_OUT);
  if (done < o->steps) {
    char left[32];
    cli_duration(seconds / (double)done * (double)(o->steps - done), left,
                 sizeof left);
    printf(", %s left", left);
  }
  putchar('\n');
  fflush(stdout);
  return translator_save(o, r->translator);
}

static bool steps(training *r) {
  const translate_options *o = r->options;
  cli_progress progress;
  cli_progress_begin(&progress, "step");
  double sum = 0, paused = 0;
  const double start = cli_seconds();
  for (int64_t i = 0, last = 0; i < o->steps; i++) {
    float loss;
    if (!step(r, i, &loss)) {
      cli_progress_clear(&progress);
      return false;
    }
    sum += (double)loss;
    cli_progress_step(&progress, i + 1, o->steps);
    if ((i + 1) % o->eval_every != 0 && i + 1 != o->steps) continue;
    const double begin = cli_seconds();
    cli_progress_clear(&progress);
    if (!report(r, i + 1, sum / (double)(i + 1 - last), begin - start - paused))
      return false;
    paused += cli_seconds() - begin;
    sum = 0;
    last = i + 1;
  }
  return true;
}

static void introduce(const training *r) {
  const translate_options *o = r->options;
  const translator *t = r->translator;
  char label[160];
  cli_device_label(t->context, t->device, label, sizeof label);
  printf("%lld layers, %lld heads, %lld columns: %lld parameters, on %s\n",
         (long long)o->layers, (long long)o->heads, (long long)o->embed,
         (long long)clattn_seq2seq_parameters(t->model), label);
  fflush(stdout);
}

int translate_train(const translate_options *o) {
  if (!cli_writable(o->out, true)) return CLI_FAILED;
  if (access(o->out, F_OK) == 0) {
    cli_error("%s: is there already; choose another --out", o->out);
    return CLI_FAILED;
  }
  translator t = {0};
  training r = {.options = o, .translator = &t};
  bool done = translator_create(o, &t) && prepare(&r);
  if (done) {
    introduce(&r);
    done = steps(&r);
  }
  if (done)
    printf("wrote %s; try: clattn translate %s \"3rd of March 1998\"\n", o->out,
           o->out);
  clattn_seq2seq_trainer_destroy(r.trainer);
  free(r.sources);
  free(r.targets);
  translator_free(&t);
  return done ? CLI_OK : CLI_FAILED;
}
