/* attn_case.h - one attention test as a value, and how to run it anywhere.
 * Zero is the default of every field, so that a table names what differs. */
#ifndef ATTN_CASE_H
#define ATTN_CASE_H

#include "harness.h"

typedef enum tc_lengths { LEN_ALL, LEN_I32, LEN_I64 } tc_lengths;
typedef enum tc_start { START_END, START_AT, START_I32, START_I64 } tc_start;
typedef enum tc_sinks { SINKS_NONE, SINKS_SOME, SINKS_INF } tc_sinks;
typedef enum tc_poison {
  POISON_NONE,
  POISON_HIDDEN, /* NaN and Inf in keys and values that no row sees       */
  POISON_KEY,    /* NaN in one key that some rows see: these become NaN   */
  POISON_VALUE   /* the same, in its value                                */
} tc_poison;
typedef enum tc_pack { PACK_NONE, PACK_KV, PACK_QKV } tc_pack;

typedef struct attn_case {
  const char *name;
  int b, hq, hk, sq, skv, d, dv; /* 0: b, hq 1; hk = hq; skv = sq; dv = d  */
  clattn_dtype dtype;            /* 0: F32                                  */
  th_layout q_layout, kv_layout, out_layout;
  tc_pack pack;
  bool causal, windowed;
  int left, right; /* when windowed; -1: unlimited                     */
  tc_start start;
  int q_start; /* START_AT; else a bias to the per-batch starts    */
  tc_lengths lengths;
  bool empty_batch;     /* lengths: entry 0 has none                        */
  const char *mask;     /* 4 letters for [B,Hq,Sq,Skv], '1' broadcasts      */
  const char *key_mask; /* 2 letters for [B,Skv]                            */
  const char *bias;     /* as mask                                          */
  clattn_dtype bias_dtype; /* 0: F32                                        */
  bool bias_inf;    /* a third of the entries is -inf                   */
  int hide_percent; /* of boolean masks; 0: 30                          */
  clattn_mask_polarity polarity;
  bool slopes;
  tc_sinks sinks;
  double scale, softcap, temperature; /* 0: default, none, 1                */
  bool zero_scale;
  double size; /* q and k are in +-size; 0: 1                      */
  bool lse, weights, weights_narrow; /* narrow: of the desc's dtype         */
  clattn_weights_stage stage;
  bool average;
  tc_poison poison;
  bool poison_rows; /* NaN and Inf in queries that see no key              */
  bool own_scratch;
  double dropout;
  bool backward; /* a plan for gradients; lse is on                        */
} attn_case;

/* The case with its numbers and its right answer, on the host. */
typedef struct attn_problem {
  attn_case c;
  th_pool pool;
  th_tensor q, k, v, mask, key_mask, bias, lengths, starts, slopes, sinks;
  th_tensor out, lse, weights;
  clattn_desc desc;
  ora_attention oracle;
  ora_result want;
} attn_problem;

typedef enum tc_result { TC_PASS, TC_SKIP, TC_FAIL } tc_result;

void attn_problem_init(attn_problem *p, const attn_case *c, uint64_t seed);
void attn_problem_free(attn_problem *p);
/* Runs and compares. SKIP: the path rightly says UNSUPPORTED. */
tc_result attn_problem_run(attn_problem *p, const th_device *device,
                           clattn_path path, char *message, size_t room);
/* A plan for that path. SKIP as above. */
tc_result attn_problem_plan(attn_problem *p, const th_device *device,
                            clattn_path path, clattn_plan **plan, char *message,
                            size_t room);
/* Whether row i of head h, batch b sees any key. */
bool attn_row_alive(const attn_problem *p, int b, int h, int i);
/* Binds every tensor and fills args; unbind after use. */
void attn_problem_bind(attn_problem *p, const th_device *device,
                       clattn_args *args);
void attn_problem_unbind(attn_problem *p);
/* Fetches and compares outputs, checks canaries and inputs. */
bool attn_problem_check(attn_problem *p, const th_device *device, char *message,
                        size_t room);
/* The case as text, for messages. */
void attn_case_print(const attn_case *c, char *text, size_t room);
/* A random point of the whole feature space. */
attn_case attn_case_random(th_rng *rng);

/* Runs cases on every device and path; counts and prints failures. */
typedef struct tc_tally {
  int passed, skipped, failed;
} tc_tally;
void attn_run_all(const th_devices *devices, const attn_case *cases, int n,
                  uint64_t seed, tc_tally *tally);
/* The same, without the cases that are too large for a reduced run. */
void attn_run_table(const th_devices *devices, const attn_case *cases, int n,
                    uint64_t seed, tc_tally *tally);
/* By clattn_path. */
enum { TC_PATHS = 4 };
extern const char *const tc_path_name[TC_PATHS];

#endif /* ATTN_CASE_H */
