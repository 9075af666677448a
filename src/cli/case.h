/* case.h - one problem of a case file: loaded, run on a device, checked.
 *
 * A case file is a safetensors file with the tensors in.NAME and out.NAME and
 * attributes in its metadata. Its `op` chooses one of the case_* builders
 * below, which turn it into calls of the library. Its `opset` chooses the
 * rules: a number means ONNX's, "clattn" this library's own. */
#ifndef CLATTN_SRC_CLI_CASE_H
#define CLATTN_SRC_CLI_CASE_H

#include "cli.h"

typedef enum case_verdict { CASE_PASS, CASE_FAIL, CASE_SKIP } case_verdict;

/* Where a case runs. */
typedef struct case_target {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_path path;
} case_target;

/* An output: NaN and guards on the device before the run, then the result. */
typedef struct case_output {
  clattn_kit_tensor got;  /* got.data is owned; NULL before it is read      */
  clattn_kit_tensor want; /* name NULL: the case does not say               */
  clattn_buffer *buffer;
  double max_error; /* |got - want|, set by the check                 */
} case_output;

enum { CASE_MAX_BUFFERS = 32, CASE_MAX_OUTPUTS = 16 };

typedef struct cli_case {
  clattn_kit_safetensors *file;
  char name[256];
  const char *op;
  int opset;    /* 0: clattn                                           */
  bool foreign; /* neither op nor opset: a file of another purpose         */
  bool says_outputs; /* the file has any out.NAME                           */
  const case_target *target;
  bool weights; /* this run asks for weights where the case has them        */
  clattn_buffer *buffers[CASE_MAX_BUFFERS];
  int n_buffers;
  case_output outputs[CASE_MAX_OUTPUTS];
  int n_outputs;
  int compared; /* outputs that checks compared                             */
  case_verdict verdict;
  char why[2048]; /* of a verdict other than PASS                           */
} cli_case;

/* Reads a file. On failure the verdict is FAIL, and close is still due. */
bool case_open(const char *path, cli_case *c);
void case_close(cli_case *c);
/* Runs it once and reads its outputs. */
case_verdict case_run(cli_case *c, const case_target *target, bool weights);
/* Compares what was read with what the file wants. */
case_verdict case_check(cli_case *c);
/* Runs and checks it as often as it takes to exercise the path: with weights
 * where the case has them and, on AUTO, without them too. SKIP where there was
 * nothing to compare. */
case_verdict case_verify(cli_case *c, const case_target *target);
/* The largest error of the last check. */
double case_max_error(const cli_case *c);

/* ---- for the builders: each returns false with a verdict set ------------- */

bool case_attention(cli_case *c); /* and its gradients */
bool case_rotary(cli_case *c);
bool case_layer(cli_case *c); /* and its gradients */

bool case_fail(cli_case *c, const char *format, ...) CLI_PRINTF(2, 3);
bool case_skip(cli_case *c, const char *format, ...) CLI_PRINTF(2, 3);
/* The library's verdict: UNSUPPORTED skips, other failures fail. */
bool case_ok(cli_case *c, clattn_status status);

/* Attribute `key`, or the default where it is absent. */
bool case_integer(cli_case *c, const char *key, int64_t absent, int64_t *value);
bool case_real(cli_case *c, const char *key, float absent, float *value);
/* Skips a case with an attribute, input or output that is not in the list,
 * since to ignore one is to compute something else. NULL ends a list. */
bool case_knows(cli_case *c, const char *const *attributes,
                const char *const *inputs, const char *const *outputs);

/* Tensor in.NAME; tensor->name is NULL where it is absent. */
bool case_input(cli_case *c, const char *name, clattn_kit_tensor *tensor);
bool case_required(cli_case *c, const char *name, clattn_kit_tensor *tensor);
/* A dense view of a tensor's bytes on the device, right-aligned. */
bool case_upload(cli_case *c, const clattn_kit_tensor *tensor,
                 clattn_tensor *view);
/* The same bytes seen as [b,h,s,d]. */
bool case_upload_as(cli_case *c, const clattn_kit_tensor *tensor, int64_t b,
                    int64_t h, int64_t s, int64_t d, clattn_tensor *view);
/* Whether the case is to give out.NAME: the file has it, or names no output. */
bool case_gives(const cli_case *c, const char *name);
/* Whether the file has out.NAME, and of which type (else `absent`). */
bool case_wants(const cli_case *c, const char *name);
clattn_dtype case_want_dtype(const cli_case *c, const char *name,
                             clattn_dtype absent);
/* Memory for out.NAME of that shape, and where in the buffer it begins. */
bool case_expect(cli_case *c, const char *name, clattn_dtype dtype, int rank,
                 const int64_t *extent, clattn_buffer **buffer,
                 int64_t *offset);

#endif
