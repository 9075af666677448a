/* oracle_model.h - BERT, GPT-2 and Llama of one text in double precision and the
 * plainest loops, from the formulas of clattn_model.h. It shares no code with
 * src/ or cl/. */
#ifndef ORACLE_MODEL_H
#define ORACLE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

typedef enum ora_family { ORA_BERT, ORA_GPT2, ORA_LLAMA } ora_family;

/* Weight [out, in] (a norm: [E]) and bias [out], NULL: none. */
typedef struct ora_module {
  double *w, *b;
} ora_module;

typedef struct ora_block {
  ora_module norm1, q, k, v, o, norm2, up, gate, down;
} ora_block;

enum { ORA_MOST_BLOCKS = 4 };

typedef struct ora_model {
  ora_family family;
  int vocab, positions, types, layers, heads, kv_heads, head_dim, embed, hidden;
  double eps, rotary_base, rotary_factor; /* factor: 0 is 1 */
  int window; /* keys a row sees, itself included; 0: all */
  bool tanh_gelu;
  double *tokens, *place, *type; /* [V,E] [P,E] [T,E] */
  ora_module embed_norm, last_norm, pooler;
  double *head; /* [V,E] */
  ora_block block[ORA_MOST_BLOCKS];
} ora_model;

typedef struct ora_model_run {
  double *hidden;    /* [1 + layers, n, E]: embeddings, then after each layer */
  double *last;      /* [n, E]: behind the last norm */
  double *attention; /* [layers, heads, n, n] */
  double *logits;    /* [n, V]; NULL for BERT */
  double *pooled;    /* [E]; NULL without a pooler */
} ora_model_run;

/* types NULL: all 0. */
ora_model_run ora_model_forward(const ora_model *m, const int32_t *ids,
                                const int32_t *types, int n);
void ora_model_run_free(ora_model_run *run);

#endif /* ORACLE_MODEL_H */
