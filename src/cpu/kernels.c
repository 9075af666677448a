/* kernels.c - the kernel bodies of cl/ for the native path; compiled once for
 * each instruction set with CLT_ISA (its name) and LANES (floats of a vector).
 *
 * Buffers arrive in the order of the kernel's parameters (cl/attn_params.h). */
#include "../../cl/attn_backward.h"
#include "../../cl/attn_blocked.h"
#include "../../cl/attn_fused.h"
#include "../../cl/attn_softmax.h"
#include "../../cl/attn_split.h"
#include "../../cl/attn_stats.h"
#include "../../cl/copy.h"
#include "../../cl/matmul.h"
#include "../../cl/nn_kernels.h"
#include "../../cl/rotary.h"
#include "../../cl/sums.h"
#include "cpu.h"

#define PARAMS                                                                 \
  const void *args, void *const *buf, float *local, size_t gx, size_t gy,      \
      size_t gz
#define UNUSED_GROUP (void)local, (void)gx, (void)gy, (void)gz

static void run_attn_fused(PARAMS) {
  attn_fused_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], buf[6], buf[7],
                   buf[8], buf[9], buf[10], buf[11], buf[12], local, (int)gx,
                   (int)gy, (int)gz);
}

static void run_attn_blocked(PARAMS) {
  attn_blocked_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], buf[5],
                     buf[6], buf[7], buf[8], buf[9], buf[10], buf[11], buf[12],
                     local, (int)gx, (int)gy, (int)gz);
}

static void run_attn_split(PARAMS) {
  attn_split_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], buf[6], buf[7],
                   buf[8], buf[9], buf[10], buf[11], buf[12], buf[13], local,
                   (int)gx, (int)gy, (int)gz);
}

static void run_attn_merge(PARAMS) {
  attn_merge_group(args, buf[3], buf[4], buf[12], buf[13], local, (int)gx,
                   (int)gy, (int)gz);
}

static void run_attn_softmax(PARAMS) {
  (void)local;
  attn_softmax_group(args, buf[4], buf[5], buf[6], buf[7], buf[8], buf[9],
                     buf[10], buf[11], buf[12], buf[13], (int)gx, (int)gy,
                     (int)gz);
}

static void run_attn_average(PARAMS) {
  (void)local, (void)gy;
  attn_average_group(args, buf[5], buf[13], (int)gx, (int)gz);
}

static void run_attn_backward(PARAMS) {
  attn_backward_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], buf[6],
                      buf[7], buf[8], buf[9], buf[10], buf[11], buf[12],
                      buf[13], local, (int)gx, (int)gy, (int)gz);
}

static void run_attn_delta(PARAMS) {
  (void)local;
  attn_delta_group(args, buf[3], buf[5], buf[13], (int)gx, (int)gy, (int)gz);
}

static void run_attn_backward_bias(PARAMS) {
  attn_backward_bias_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], buf[5],
                           buf[6], buf[7], buf[8], buf[9], buf[10], buf[11],
                           buf[12], buf[13], local, (int)gx, (int)gy, (int)gz);
}

static void run_attn_backward_sinks(PARAMS) {
  (void)local, (void)gy, (void)gz;
  attn_backward_sinks_group(args, buf[4], buf[5], buf[12], buf[13], (int)gx);
}

static void run_attn_scores_backward(PARAMS) {
  const clt_attn_args *A = args;
  const int first = (int)gx * SOFTMAX_ROWS;
  (void)local;
  for (int i = first; i < MIN_OF(first + SOFTMAX_ROWS, A->q_len); i++)
    attn_scores_backward_row(A, buf[4], buf[6], buf[7], buf[8], buf[9], buf[10],
                             buf[11], buf[13], i, (int)gy, (int)gz, 0, LANES);
}

static void run_attn_stats(PARAMS) {
  attn_stats_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], buf[5], buf[6],
                   buf[7], buf[8], buf[9], buf[10], buf[11], buf[12], buf[13],
                   local, (int)gx, (int)gy, (int)gz);
}

static void run_sum_parts(PARAMS) {
  const clt_sum_parts_args *A = args;
  const int first = (int)gx * COPY_ROWS;
  (void)local;
  for (int r = first; r < MIN_OF(first + COPY_ROWS, A->rows); r++)
    sum_parts_row(A, buf[0], buf[1], r, (int)gy, (int)gz, 0, LANES);
}

static void run_column_sums(PARAMS) {
  (void)local, (void)gy, (void)gz;
  column_sums_columns(args, buf[0], buf[1], (int)gx * LANES);
}

static void run_matmul(PARAMS) {
  matmul_group(args, buf[0], buf[1], buf[2], buf[3], local, (int)gx, (int)gy,
               (int)gz);
}

static void run_rotary(PARAMS) {
  (void)local, (void)gy;
  rotary_group(args, buf[0], buf[1], buf[2], buf[3], buf[4], (int)gx, (int)gz);
}

static void run_copy_rows(PARAMS) {
  (void)local;
  copy_rows_group(args, buf[0], buf[1], (int)gx, (int)gy, (int)gz);
}

static void run_set_i32(PARAMS) {
  UNUSED_GROUP;
  set_i32_group(args, buf[0]);
}

#define X(name)                                                                \
  static void run_nn_##name(PARAMS) {                                          \
    float *const b[CLT_NN_BUFFERS] = {buf[0], buf[1], buf[2],                  \
                                      buf[3], buf[4], buf[5]};                 \
    (void)local, (void)gy, (void)gz;                                           \
    nn_##name##_unit(args, b, (clt_i64)gx);                                    \
  }
NN_KERNELS(X)
#undef X

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const clt_cpu_kernels CLT_CAT(clt_cpu_kernels_, CLT_ISA) = {
    .isa = TEXT(CLT_ISA),
    .name = "vectors of " TEXT(LANES) ", " TEXT(CLT_ISA),
    .lanes = LANES,
    .run = {[CLT_K_ATTN_FUSED] = run_attn_fused,
            [CLT_K_ATTN_BLOCKED] = run_attn_blocked,
            [CLT_K_ATTN_SPLIT] = run_attn_split,
            [CLT_K_ATTN_MERGE] = run_attn_merge,
            [CLT_K_ATTN_SOFTMAX] = run_attn_softmax,
            [CLT_K_ATTN_AVERAGE] = run_attn_average,
            [CLT_K_ATTN_BACKWARD] = run_attn_backward,
            [CLT_K_ATTN_DELTA] = run_attn_delta,
            [CLT_K_ATTN_BACKWARD_BIAS] = run_attn_backward_bias,
            [CLT_K_ATTN_BACKWARD_SINKS] = run_attn_backward_sinks,
            [CLT_K_ATTN_SCORES_BACKWARD] = run_attn_scores_backward,
            [CLT_K_ATTN_STATS] = run_attn_stats,
            [CLT_K_ATTN_STATS_SUM] = run_sum_parts,
            [CLT_K_SUM_PARTS] = run_sum_parts,
            [CLT_K_MATMUL] = run_matmul,
            [CLT_K_COLUMN_SUMS] = run_column_sums,
            [CLT_K_ROTARY] = run_rotary,
            [CLT_K_COPY] = run_copy_rows,
            [CLT_K_SET_I32] = run_set_i32,
            [CLT_K_NN_MAP] = run_nn_map,
            [CLT_K_NN_ADAMW] = run_nn_adamw,
            [CLT_K_NN_LAYER_NORM] = run_nn_layer_norm,
            [CLT_K_NN_LAYER_NORM_BACK] = run_nn_layer_norm_back,
            [CLT_K_NN_RMS_NORM] = run_nn_rms_norm,
            [CLT_K_NN_RMS_NORM_BACK] = run_nn_rms_norm_back,
            [CLT_K_NN_CROSS_ENTROPY] = run_nn_cross_entropy,
            [CLT_K_NN_CROSS_ENTROPY_BACK] = run_nn_cross_entropy_back,
            [CLT_K_NN_GATHER] = run_nn_gather,
            [CLT_K_NN_SCATTER] = run_nn_scatter,
            [CLT_K_NN_COLUMN_SUMS] = run_nn_column_sums,
            [CLT_K_NN_NORM_PARTS] = run_nn_norm_parts,
            [CLT_K_NN_LOSS_PARTS] = run_nn_loss_parts,
            [CLT_K_NN_FOLD] = run_nn_fold}};
