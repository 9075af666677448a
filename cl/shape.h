/* shape.h - tile sizes of the kernels and the local memory they need; the host
 * code that launches them reads the same numbers. All sizes count floats. */
#ifndef CLT_SHAPE_H
#define CLT_SHAPE_H

/* Query rows of a fused group. 64 wants about 100 KiB of local memory; a device
 * with less compiles with BM = 16. */
#ifndef BM
#  define BM 64
#endif
#define BN 64    /* keys of a block                                         */
#define D_STEP 4 /* rows of O^T in a register tile; v_dim is padded to it   */
#define MAX_LANES 16

#define CLT_PAD(x, to) (((x) + (to)-1) / (to) * (to))

/* Fused: Q^T [D][bm], O^T [Dv'][bm], K or V block [BN][D or Dv'], mask tile
 * [BN][bm] if there is a mask or an additive mask, S^T [BN][bm]. */
#define CLT_FUSED_LOCAL(bm, d, dv, masked)                                     \
  ((size_t)(bm) * ((size_t)(d) + CLT_PAD((size_t)(dv), D_STEP) +               \
                   BN * ((masked) ? 2 : 1)) +                                  \
   BN * ((size_t)(d) > CLT_PAD((size_t)(dv), D_STEP)                           \
             ? (size_t)(d)                                                     \
             : CLT_PAD((size_t)(dv), D_STEP)))

/* Blocked: the same with S^T [Skv][bm] instead of one block of it. */
#define CLT_BLOCKED_LOCAL(bm, d, dv, masked, keys)                             \
  (CLT_FUSED_LOCAL(bm, d, dv, masked) +                                        \
   (size_t)(bm)*CLT_PAD((size_t)(keys), BN))

/* Backward, a block of bm queries and as many keys: Q^T, dO^T, dQ^T, Q, dO, keys,
 * values, P^T, dS^T, two vectors of bm; a mask tile if there is a mask or an
 * additive mask; the slope of softcap if there is one; more: another bm x bm. */
#define CLT_BACKWARD_LOCAL(bm, d, dv, masked, softcap, more)                   \
  ((size_t)(bm) *                                                              \
   ((size_t)(d) + (size_t)(dv) + 2 * CLT_PAD((size_t)(d), D_STEP) +            \
    CLT_PAD((size_t)(d), MAX_LANES) + CLT_PAD((size_t)(dv), MAX_LANES) +       \
    (size_t)(dv) + 2 +                                                         \
    (size_t)(bm) *                                                             \
        (2 + ((masked) ? 1 : 0) + ((softcap) ? 1 : 0) + ((more) ? 1 : 0))))
/* Keys that a group of backward works off at least: see rows_backward.c. */
#define BACKWARD_KEYS 256

/* Statistics: Q^T, keys, mask tile, S^T as fused has them; two lists of the `top`
 * largest weights. */
#define CLT_STATS_LOCAL(bm, d, masked, top)                                    \
  ((size_t)(bm) *                                                              \
       ((size_t)(d) + BN * ((masked) ? 2 : 1) + 2 * (size_t)(top)) +           \
   BN * (size_t)(d))

/* Split-KV: rows that share one pass over keys and values, and keys of a block. */
#define SPLIT_ROWS_OF(bm) ((bm) >= 32 ? 32 : 8)
#define SPLIT_KEYS 256
/* q [rows][D'], o [rows][Dv'], s [rows][SPLIT_KEYS], padded to whole vectors. */
#define CLT_SPLIT_LOCAL(bm, d, dv)                                             \
  ((size_t)SPLIT_ROWS_OF(bm) *                                                 \
   (CLT_PAD((size_t)(d), MAX_LANES) + CLT_PAD((size_t)(dv), MAX_LANES) +       \
    SPLIT_KEYS))
/* Floats of one row's partial result in scratch: O, maximum, sum. */
#define CLT_SPLIT_PART(dv) ((size_t)(dv) + 2)

/* Unfused softmax: rows of a group. */
#define SOFTMAX_ROWS 4

/* Matmul: MM_M rows x up to MM_PANELS panels of MM_N columns a group, MM_K deep
 * at a time; few rows (up to MM_SKINNY) are dotted MM_SKINNY_K at a time. */
#define MM_N 64
#define MM_SKINNY 8
#define MM_M_OF(bm) ((bm) >= 32 ? 192 : 24)
#define MM_K_OF(bm) ((bm) >= 32 ? 256 : 32)
#define MM_PANELS_OF(bm) ((bm) >= 32 ? 4 : 1)
#define MM_SKINNY_K_OF(bm)                                                     \
  ((bm) >= 32 ? 2048 : 64) /* 8 rows fit in A's place */
#define CLT_MATMUL_LOCAL(bm, panels)                                           \
  ((size_t)MM_K_OF(bm) * MM_N + (size_t)MM_M_OF(bm) * MM_K_OF(bm) +            \
   (size_t)MM_M_OF(bm) * MM_N * (size_t)(panels))

/* Kernels for GPUs (*_tile): a group is TILE_X x height work-items, height 16,
 * 8 or 4 as the device allows; each keeps a register tile of TILE_R x TILE_R
 * results, so that a group holds TILE_R * height rows of TILE_N columns. */
#define TILE_X 16
#define TILE_R 4
#define TILE_N (TILE_X * TILE_R)
#define TILE_K 16  /* depth that is staged in local memory at a time          */
#define TILE_PAD 2 /* floats between staged rows: spreads them over the banks */
#define TILE_MAX_HEIGHT 16
#define TILE_MIN_HEIGHT 4
#define TILE_MIN_GROUP (TILE_X * TILE_MIN_HEIGHT)
/* Rows of a group with their padding. */
#define TILE_LD(height) (TILE_R * (height) + TILE_PAD)
/* Both operands of a product, TILE_K deep. */
#define TILE_STAGE(height) (TILE_K * (TILE_LD(height) + TILE_N + TILE_PAD))

/* Fused: v_dim is worked off in slices, each by groups of its own. */
#define FUSED_TILE_DV (2 * TILE_N)
#define FUSED_TILE_KEYS                                                        \
  32 /* values staged at a time, as [keys][TILE_N + PAD] */
#define FUSED_TILE_STAGE (FUSED_TILE_KEYS * (TILE_N + TILE_PAD))
/* Operands or values, P^T [TILE_N][rows], a reduction, a flag. */
#define CLT_FUSED_TILE_LOCAL(height)                                           \
  ((size_t)(FUSED_TILE_STAGE + (TILE_N + TILE_X) * TILE_LD(height) + 4))

/* Statistics: operands, P^T, a reduction, sums of columns. */
#define CLT_STATS_TILE_LOCAL(height)                                           \
  ((size_t)(TILE_STAGE(height) + (TILE_N + TILE_X) * TILE_LD(height) + TILE_X))

/* Backward: operands; P and dS [TILE_N][rows]; lse and delta of the queries; a
 * flag. */
#define CLT_BACKWARD_TILE_LOCAL(height)                                        \
  ((size_t)(FUSED_TILE_STAGE + 2 * TILE_N * TILE_LD(height) + 2 * TILE_N + 4))
/* Groups of TILE_X x this height: a line of them has a row, or all of them. */
#define ROWS_TILE_HEIGHT TILE_MIN_HEIGHT
#define CLT_ROWS_TILE_LOCAL ((size_t)ROWS_TILE_HEIGHT * (TILE_X + 1))

/* Split-KV: SPLIT_TILE_ROWS rows against TILE_R * height keys at a time. */
#define SPLIT_TILE_ROWS 8
#define SPLIT_TILE_DV (TILE_R * TILE_N) /* columns of a slice of v_dim */
/* q [rows][D], sums of two rows [2][keys][TILE_X + 1], s [keys][rows], one
 * float a work-item, two a row. */
#define CLT_SPLIT_TILE_LOCAL(height, d)                                        \
  ((size_t)SPLIT_TILE_ROWS * (size_t)(d) +                                     \
   (size_t)(height) *                                                          \
       (2 * TILE_R * (TILE_X + 1) + TILE_R * SPLIT_TILE_ROWS + TILE_X) +       \
   2 * SPLIT_TILE_ROWS)
#define MERGE_TILE_ITEMS TILE_MIN_GROUP

/* Softmax and mean: a group of TILE_X x height is a line of work-items. */
#define CLT_SOFTMAX_TILE_LOCAL(height) ((size_t)TILE_X * (height))

/* Matmul: few rows are dotted, a column of C by TILE_X work-items; else tiles. */
#define CLT_MATMUL_TILE_DOTS(args)                                             \
  ((args)->m <= MM_SKINNY && (args)->b.s[3] == 1 && !(args)->skip_zero)
/* Operands and a flag, or partial sums [MM_SKINNY][height][TILE_X + 1]. */
#define CLT_MATMUL_TILE_LOCAL(height)                                          \
  ((size_t)MM_SKINNY * (height) * (TILE_X + 1) >                               \
           (size_t)TILE_STAGE(height) + 4                                      \
       ? (size_t)MM_SKINNY * (height) * (TILE_X + 1)                           \
       : (size_t)TILE_STAGE(height) + 4)

/* Rows of a copy group. */
#define COPY_ROWS 16

/* nn.cl: columns whose sums a unit keeps in registers; a work-item keeps one. */
#define NN_COLUMNS 32
/* Work-items of a group of nn_tile.cl. */
#define NN_TILE_ITEMS 64

#endif /* CLT_SHAPE_H */
