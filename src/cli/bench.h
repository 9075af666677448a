/* bench.h - the parts of clattn bench.
 *
 * One line of the table is one shape on one device. The library and its rivals
 * are all a `bench_rival`: each computes the line once, is checked against an
 * oracle, and then they are timed in turn, A B A B, between probes of what the
 * machine gives at that moment. */
#ifndef CLATTN_SRC_CLI_BENCH_H
#define CLATTN_SRC_CLI_BENCH_H

#include "bench_shapes.h"
#include "bench_team.h"
#include "bench_vector.h"

/* ---- what is measured ---------------------------------------------------- */

typedef struct bench_target {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_device_info info;
  char label[160];
  bool on_host;     /* its threads are the host's cores */
  int threads;      /* of the device where on_host */
  bench_team *team; /* as many */
  const bench_vector *vector;
} bench_target;

/* A shape with its numbers, dense in [batch, head, row, dim] order. */
typedef struct bench_problem {
  const bench_shape *shape;
  clattn_path path;
  bool weights;  /* the probabilities are wanted as well */
  bool backward; /* the gradients are what is timed */
  void *q;       /* [B,Hq,Sq,D]  each in the shape's dtype */
  void *k;       /* [B,Hk,Skv,D]  */
  void *v;       /* [B,Hk,Skv,Dv] */
  void *d_out;   /* [B,Hq,Sq,Dv]; NULL unless backward */
} bench_problem;

/* Why something could not run: one line of text. */
enum { BENCH_WHY_CHARS = 512 };
/* Writes it; returns false. */
bool bench_refuse(char *why, const char *format, ...) CLI_PRINTF(2, 3);
/* Memory of the host, aligned for vectors, to be freed; NULL with why when
 * there is less than that left: the system would promise it all the same. */
void *bench_alloc(double bytes, const char *what, char *why);
/* The same question without taking it. */
bool bench_fits(double bytes, const char *what, char *why);

/* Random numbers of variance 1 for problem->shape. False with why; _free is due
 * either way. */
bool bench_problem_make(const bench_target *target, bench_problem *problem,
                        char *why);
void bench_problem_free(bench_problem *problem);

/* ---- who computes it ----------------------------------------------------- */

typedef enum bench_output {
  BENCH_OUT,     /* row of v_dim, in the shape's dtype */
  BENCH_WEIGHTS, /* row of kv_len, F32 */
  BENCH_LSE,     /* row of 1, F32; this and what follows: of the library only */
  BENCH_D_Q,     /* row of qk_dim */
  BENCH_D_K,     /* row (b * kv_heads + h) * kv_len + j, of qk_dim */
  BENCH_D_V,     /* and of v_dim */
  BENCH_OUTPUTS
} bench_output;

typedef struct bench_rival {
  const char *name;
  /* Once a device: loads what is needed. False with why it cannot run. */
  bool (*open)(const bench_target *target, void **state, char *why);
  /* Once a line: memory and whatever a user would do before the first call.
   * *work is NULL if it fails. */
  bool (*prepare)(void *state, const bench_problem *problem, void **work,
                  char *why);
  /* Computes the line; returns when the result is there. */
  bool (*run)(void *work, char *why);
  /* Copies row (b * q_heads + h) * q_len + i of a result. */
  bool (*read)(void *work, bench_output which, size_t row, void *data,
               char *why);
  void (*destroy)(void *work); /* of prepare */
  void (*close)(void *state);  /* of open */
} bench_rival;

extern const bench_rival bench_own; /* the library itself */
/* The two that --backward times: forward with lse, and the gradients. */
extern const bench_rival bench_own_forward, bench_own_backward;
/* n rows at once, of one of these three. */
bool bench_own_read(void *work, bench_output which, size_t row, size_t n,
                    void *data, char *why);
extern const bench_rival bench_openblas, bench_openblas_flash, bench_clblast;

/* ---- whether it is right (bench_oracle.c) -------------------------------- */

/* Some rows of the result in double precision, and how far off each number may
 * be. */
typedef struct bench_oracle bench_oracle;

bench_oracle *bench_oracle_create(const bench_problem *problem);
void bench_oracle_destroy(bench_oracle *oracle);
/* False with why if a row that was read is wrong (*wrong) or could not be read.
 * *max_error: the largest difference. */
bool bench_oracle_check(const bench_oracle *oracle, const bench_rival *rival,
                        void *work, bool *wrong, double *max_error, char *why);

/* The same of sampled rows of d_q and of d_k and d_v, for bench_own_backward
 * (bench_gradients.c). */
bool bench_gradients_check(const bench_problem *problem, void *work,
                           bool *wrong, double *max_error, char *why);

/* What both are made of. A number of the type, and how far rounding to the type
 * may move x. */
double bench_number(clattn_dtype dtype, const void *data, size_t i);
double bench_rounding(clattn_dtype dtype, double x);
/* The first row and the last, and others between them; returns how many. */
enum { BENCH_ROWS = 12 };
int bench_choose_rows(size_t rows, size_t row[BENCH_ROWS]);

typedef struct bench_comparison {
  const char *what;
  clattn_dtype dtype;
  const double *want, *tol; /* [n] */
  size_t n;
} bench_comparison;

/* Whether a row is what is wanted; NaN never is. */
bool bench_compare(const bench_comparison *c, const void *got, size_t row,
                   double *max_error, char *why);

/* ---- what the machine gives (bench_probe.c) ------------------------------ */

typedef enum bench_probe_kind {
  BENCH_PROBE_NONE, /* the device's cores are not the host's */
  BENCH_PROBE_FMA,  /* operations a second */
  BENCH_PROBE_READ  /* bytes a second from memory */
} bench_probe_kind;

typedef struct bench_probe {
  bench_team *team;
  const bench_vector *vector;
  long turns;    /* of an FMA task, */
  size_t tasks;  /* and how many of them make a probe */
  float *memory; /* read in turn, so that no cache holds what comes next */
  size_t at;
} bench_probe;

/* The vector code that this machine runs. */
const bench_vector *bench_vector_choose(void);
void bench_probe_create(const bench_target *target, bench_probe *probe);
void bench_probe_destroy(bench_probe *probe);
/* `length` times about a millisecond; 0 for NONE and when there is no memory. */
double bench_probe_run(bench_probe *probe, bench_probe_kind kind,
                       size_t length);

/* ---- timing a line (bench_line.c) ---------------------------------------- */

enum { BENCH_MOST_RIVALS = 8 };

typedef struct bench_entry {
  const bench_rival *rival;
  void *state;                  /* NULL: closed, for the reason */
  char closed[BENCH_WHY_CHARS]; /* why it cannot run on this device */
  double rate;                  /* best FLOP/s of long calls; 0 unknown */
} bench_entry;

/* Who runs on one device; entry 0 is the library. */
typedef struct bench_field {
  bench_entry entry[BENCH_MOST_RIVALS];
  int n;
} bench_field;

typedef struct bench_result {
  const char *rival;            /* NULL: the library */
  char reason[BENCH_WHY_CHARS]; /* why there are no times; "" if there are */
  bool wrong;                   /* and that is the reason */
  int samples, dropped;         /* used, and not: the machine was disturbed */
  double seconds, seconds_cpu;  /* medians of a call; CPU of all threads */
  double fraction;              /* of the probe; NaN without one */
  double ratio; /* its time by the library's; of bench_own_backward by that of
                 * bench_own_forward, the median over the rounds */
  double max_error;
} bench_result;

typedef struct bench_line {
  const bench_shape *shape;
  clattn_path path;
  bool weights;
  bool backward; /* result: the gradients, forward */
  bench_probe_kind probe;
  double probe_rate; /* median */
  bench_result result[BENCH_MOST_RIVALS];
  int n;
} bench_line;

typedef struct bench_limits {
  double seconds;       /* of timing a line */
  double rival_seconds; /* of one rival in a line */
} bench_limits;

/* line: shape, path, weights and backward are given; the rest is filled in. */
void bench_line_run(const bench_target *target, bench_field *field,
                    bench_probe *probe, const bench_limits *limits,
                    bench_line *line);

/* ---- what is shown (bench_report.c, bench_json.c) ------------------------ */

void bench_print_head(const bench_target *target, const bench_field *field,
                      const bench_shapes *shapes, const bench_line *like);
void bench_print_line(const bench_field *field, const bench_line *line,
                      int name_width);
int bench_name_width(const bench_shapes *shapes);

typedef struct bench_json bench_json; /* the results so far */
bench_json *bench_json_create(const char *path);
/* Tries before anything is measured; prints why not. */
bool bench_json_writable(const bench_json *json);
void bench_json_destroy(bench_json *json);
/* Adds a line's results and writes the file anew, beside the old one and then
 * in its place, so that a reader never sees half of it, and a run that is
 * stopped leaves what it had. Prints what failed. */
bool bench_json_add(bench_json *json, const bench_target *target,
                    const bench_line *line);

#endif
