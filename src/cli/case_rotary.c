/* case_rotary.c - the op RotaryEmbedding as one call of clattn_rotary. */
#include "case.h"

static const char *const attributes[] = {"interleaved", "rotary_embedding_dim",
                                         "num_heads", NULL};
static const char *const inputs[] = {"input", "cos_cache", "sin_cache",
                                     "position_ids", NULL};
static const char *const outputs[] = {"output", NULL};

/* x and out: (B,H,S,D), or (B,S,H*D) split into `heads`. */
static bool load_x(cli_case *c, const clattn_kit_tensor *input, int64_t heads,
                   clattn_rotary_args *args) {
  const int64_t *e = input->extent;
  clattn_buffer *buffer;
  int64_t offset;
  if (input->rank == 3 && (heads < 1 || e[2] % heads != 0))
    return case_fail(c, "input: %lld columns do not split into %lld heads",
                     (long long)e[2], (long long)heads);
  if (input->rank != 3 && input->rank != 4)
    return case_fail(c, "input: got rank %d, want 3 or 4", input->rank);
  if (!case_upload(c, input, &args->x) ||
      !case_expect(c, "output", args->x.dtype, input->rank, e, &buffer,
                   &offset))
    return false;
  if (input->rank == 3)
    args->x = clattn_view_bshd(args->x.buffer, args->x.dtype, e[0], heads, e[1],
                               e[2] / heads);
  args->out = args->x; /* the same layout in another buffer */
  args->out.buffer = buffer;
  args->out.offset = offset;
  return true;
}

/* Tables by row of position_ids, or (B,S,R/2) by token. */
static bool load_tables(cli_case *c, const clattn_kit_tensor *cosines,
                        const clattn_kit_tensor *sines,
                        const clattn_kit_tensor *positions,
                        clattn_rotary_args *args) {
  if (positions->name != NULL)
    return case_upload(c, cosines, &args->cos) &&
           case_upload(c, sines, &args->sin) &&
           case_upload(c, positions, &args->position_ids);
  const int64_t *e = cosines->extent;
  if (cosines->rank != 3 || sines->rank != 3)
    return case_fail(c,
                     "cos_cache, sin_cache: want (B,S,R/2) without "
                     "position_ids");
  return case_upload_as(c, cosines, e[0], 1, e[1], e[2], &args->cos) &&
         case_upload_as(c, sines, e[0], 1, e[1], e[2], &args->sin);
}

bool case_rotary(cli_case *c) {
  clattn_kit_tensor input, cosines, sines, positions;
  int64_t heads, interleaved;
  clattn_rotary_args args;
  clattn_rotary_args_init(&args);
  if (!case_knows(c, attributes, inputs, outputs) ||
      !case_required(c, "input", &input) ||
      !case_required(c, "cos_cache", &cosines) ||
      !case_required(c, "sin_cache", &sines) ||
      !case_input(c, "position_ids", &positions) ||
      !case_integer(c, "num_heads", 0, &heads) ||
      !case_integer(c, "interleaved", 0, &interleaved) ||
      !case_integer(c, "rotary_embedding_dim", 0, &args.rotary_dim) ||
      !load_x(c, &input, heads, &args) ||
      !load_tables(c, &cosines, &sines, &positions, &args))
    return false;
  args.interleaved = interleaved != 0;
  return case_ok(c, clattn_rotary(c->target->queue, &args, NULL, 0, NULL));
}
