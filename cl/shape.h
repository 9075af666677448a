/* shape.h - tile sizes of the kernels and the local memory they need; the host
 * code that launches them reads the same numbers. All sizes count floats. */
#ifndef CLT_SHAPE_H
#define CLT_SHAPE_H

/* Query rows of a fused group. 64 wants about 100 KiB of local memory; a device
 * with less compiles with BM = 16. */
#ifndef BM
#define BM 64
#endif
#define BN 64      /* keys of a block                                         */
#define D_STEP 4   /* rows of O^T in a register tile; v_dim is padded to it   */
#define MAX_LANES 16

#define CLT_PAD(x, to) (((x) + (to) - 1) / (to) * (to))

/* Fused: Q^T [D][bm], O^T [Dv'][bm], S^T [BN][bm], K or V block [BN][D or Dv'],
 * mask tile [BN][bm] if there is a mask or an additive mask. */
#define CLT_FUSED_LOCAL(bm, d, dv, masked)                                     \
  ((size_t)(bm) * ((size_t)(d) + CLT_PAD((size_t)(dv), D_STEP) +               \
                   BN * ((masked) ? 2 : 1)) +                                  \
   BN * ((size_t)(d) > CLT_PAD((size_t)(dv), D_STEP)                           \
             ? (size_t)(d)                                                     \
             : CLT_PAD((size_t)(dv), D_STEP)))

/* Split-KV: rows that share one pass over keys and values. */
#define SPLIT_ROWS 8
/* q [rows][D'], o [rows][Dv'], s [rows][BN], sizes padded to whole vectors. */
#define CLT_SPLIT_LOCAL(d, dv)                                                 \
  ((size_t)SPLIT_ROWS * (CLT_PAD((size_t)(d), MAX_LANES) +                     \
                         CLT_PAD((size_t)(dv), MAX_LANES) + BN))
/* Floats of one row's partial result in scratch: O, maximum, sum. */
#define CLT_SPLIT_PART(dv) ((size_t)(dv) + 2)

/* Unfused softmax: rows of a group. */
#define SOFTMAX_ROWS 4

/* Matmul: MM_M x MM_N results a group, MM_K at a time; few rows (up to
 * MM_SKINNY) are dotted MM_SKINNY_K at a time instead. */
#define MM_N 64
#define MM_SKINNY 8
#define MM_M_OF(bm) ((bm) >= 64 ? 96 : 24)
#define MM_K_OF(bm) ((bm) >= 64 ? 256 : 32)
#define MM_SKINNY_K_OF(bm) ((bm) >= 64 ? 2048 : 64)  /* 8 rows fit in A's */
#define CLT_MATMUL_LOCAL(bm)                                                   \
  ((size_t)MM_K_OF(bm) * MM_N + (size_t)MM_M_OF(bm) * MM_K_OF(bm) +            \
   (size_t)MM_M_OF(bm) * MM_N)

/* Rows of a copy group. */
#define COPY_ROWS 16

#endif /* CLT_SHAPE_H */
