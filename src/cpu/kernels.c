/* kernels.c - the kernel bodies of cl/ for the native path; compiled once for
 * each instruction set with CLT_ISA (its name) and LANES (floats of a vector).
 *
 * Buffers arrive in the order of the kernel's parameters (cl/attn_params.h). */
#include "../../cl/attn_blocked.h"
#include "../../cl/attn_fused.h"
#include "../../cl/attn_softmax.h"
#include "../../cl/attn_split.h"
#include "../../cl/copy.h"
#include "../../cl/matmul.h"
#include "../../cl/rotary.h"
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
            [CLT_K_MATMUL] = run_matmul,
            [CLT_K_ROTARY] = run_rotary,
            [CLT_K_COPY] = run_copy_rows,
            [CLT_K_SET_I32] = run_set_i32}};
