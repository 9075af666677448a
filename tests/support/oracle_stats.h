/* oracle_stats.h - what the weights of attention say, in double precision, from
 * the weights of oracle.h and the formulas of clattn.h; with it how far a correct
 * fp32 implementation that forms P from a stored lse may be off:
 *
 *   P         <= P (exp(E_j + sum_k P_k E_k + 8 e (1 + |lse|)) - 1) + 2^-63
 *   entropy   <= sum_j error(P_j) (1 + |ln P_j|) + 2 e (sqrt(n) + 8) |entropy|
 *   distance  <= sum_j error(P_j) |p - j| + 2 e (sqrt(n) + 8) distance */
#ifndef ORACLE_STATS_H
#define ORACLE_STATS_H

#include "oracle.h"

typedef struct ora_stats {
  double *entropy, *entropy_tol;   /* [B,Hq,Sq] */
  double *distance, *distance_tol; /* [B,Hq,Sq] */
  double *map, *map_tol;           /* [B,Hq,ceil(Sq/rows),ceil(Skv/keys)] */
  double *p, *p_tol;               /* [B,Hq,Sq,Skv] */
} ora_stats;

ora_stats ora_statistics(const ora_attention *a, int64_t map_rows,
                         int64_t map_keys);
void ora_stats_free(ora_stats *s);

/* Whether the `top` weights and keys given for row i of (b, h) are a right answer:
 * each the weight of its key, falling, of equal ones the smaller key first, none
 * left out that is larger, 0 and -1 where the row sees fewer. */
bool ora_top_right(const ora_attention *a, const ora_stats *s, int64_t b,
                   int64_t h, int64_t i, int64_t top, const double *weights,
                   const double *keys);

#endif /* ORACLE_STATS_H */
