/* bench_report.c - the table: a row a shape, a column a rival. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LEAST_WIDTH = 9 };

static int column_width(const bench_entry *entry) {
  const int width = (int)strlen(entry->rival->name);
  return width < LEAST_WIDTH ? LEAST_WIDTH : width;
}

int bench_name_width(const bench_shapes *shapes) {
  int width = 5;
  for (size_t i = 0; i < shapes->n; i++)
    if ((int)strlen(shapes->list[i].name) > width)
      width = (int)strlen(shapes->list[i].name);
  return width;
}

void bench_print_head(const bench_target *target, const bench_field *field,
                      const bench_shapes *shapes, const bench_line *like) {
  const bool native = target->info.backend == CLATTN_CPU;
  printf("%s (%s)", target->label,
         native ? target->info.name : target->info.platform);
  if (target->on_host)
    printf(", %d thread%s, probes %s", target->threads,
           target->threads == 1 ? "" : "s", target->vector->isa);
  printf(", path %s%s%s\n", cli_path_name(like->path),
         like->weights ? ", weights returned" : "",
         like->backward ? ", forward with lse and backward" : "");
  for (int i = 1; i < field->n; i++)
    if (field->entry[i].state == NULL)
      printf("%s: not run: %s\n", field->entry[i].rival->name,
             field->entry[i].closed);
  if (like->backward) {
    printf("%-*s %10s %10s %6s %8s %7s %10s %8s\n", bench_name_width(shapes),
           "shape", "forward ms", "backward", "ratio", "GFLOP/s", "a core",
           "of probe", "error");
    fflush(stdout);
    return;
  }
  printf("%-*s %10s %8s %7s %7s %10s %8s", bench_name_width(shapes), "shape",
         "ms", "GFLOP/s", "a core", "GB/s", "of probe", "error");
  for (int i = 1; i < field->n; i++)
    if (field->entry[i].state != NULL)
      printf("  %*s", column_width(&field->entry[i]),
             field->entry[i].rival->name);
  printf("\n");
  fflush(stdout);
}

/* How it counts as a core's work: a second of CPU time is that of a core. */
static const char *core_text(const bench_line *line, double gflop,
                             char text[16]) {
  strcpy(text, "-");
  if (line->probe != BENCH_PROBE_NONE)
    snprintf(text, 16, "%.3g", gflop / line->result[0].seconds_cpu);
  return text;
}

static const char *probe_text(const bench_line *line, char text[16]) {
  static const char *const probes[] = {"", " fma", " read"};
  strcpy(text, "-");
  if (!isnan(line->result[0].fraction))
    snprintf(text, 16, "%.2f%s", line->result[0].fraction, probes[line->probe]);
  return text;
}

static void print_backward(const bench_line *line) {
  const bench_result *r = &line->result[0];
  const double gflop = bench_shape_backward_flop(line->shape) * 1e-9;
  char core[16], of[16];
  if (isnan(line->result[1].seconds))
    printf(" %10s", line->result[1].wrong ? "WRONG" : "not run");
  else
    printf(" %10.4g", line->result[1].seconds * 1e3);
  if (isnan(r->seconds))
    printf(" %10s %6s %8s %7s %10s %8s", r->wrong ? "WRONG" : "not run", "-",
           "-", "-", "-", "-");
  else
    printf(" %10.4g %6.2f %8.4g %7s %10s %8.0e", r->seconds * 1e3, r->ratio,
           gflop / r->seconds, core_text(line, gflop, core),
           probe_text(line, of), r->max_error);
}

static void print_own(const bench_line *line) {
  const bench_result *r = &line->result[0];
  if (isnan(r->seconds)) {
    printf(" %10s %8s %7s %7s %10s %8s", r->wrong ? "WRONG" : "not run", "-",
           "-", "-", "-", "-");
    return;
  }
  const double gflop = bench_shape_flop(line->shape) * 1e-9;
  char core[16], of[16];
  printf(" %10.4g %8.4g %7s %7.3g %10s %8.0e", r->seconds * 1e3,
         gflop / r->seconds, core_text(line, gflop, core),
         bench_shape_bytes(line->shape) / r->seconds * 1e-9,
         probe_text(line, of), r->max_error);
}

static bool to_explain(const bench_field *field, const bench_line *line,
                       int i) {
  return isnan(line->result[i].seconds) && field->entry[i].state != NULL;
}

/* Below the row why somebody has no time; those with one reason together. */
static void print_reasons(const bench_field *field, const bench_line *line) {
  for (int i = 0; i < line->n; i++) {
    if (!to_explain(field, line, i)) continue;
    const char *reason = line->result[i].reason;
    bool said = false;
    for (int j = 0; j < i && !said; j++)
      said = to_explain(field, line, j) &&
             strcmp(line->result[j].reason, reason) == 0;
    if (said) continue;
    printf("  %s", field->entry[i].rival->name);
    for (int j = i + 1; j < line->n; j++)
      if (to_explain(field, line, j) &&
          strcmp(line->result[j].reason, reason) == 0)
        printf(", %s", field->entry[j].rival->name);
    printf(": %s\n", reason);
  }
}

void bench_print_line(const bench_field *field, const bench_line *line,
                      int name_width) {
  printf("%-*s", name_width, line->shape->name);
  if (line->backward)
    print_backward(line);
  else
    print_own(line);
  for (int i = 1; i < line->n && !line->backward; i++) {
    if (field->entry[i].state == NULL) continue;
    const bench_result *r = &line->result[i];
    const int width = column_width(&field->entry[i]);
    char text[32];
    if (isnan(r->seconds))
      snprintf(text, sizeof text, "%s", r->wrong ? "WRONG" : "-");
    else
      snprintf(text, sizeof text, "%.2f", r->ratio);
    /* Without a time of our own there is nothing to divide by. */
    if (strcmp(text, "nan") == 0) snprintf(text, sizeof text, "ran");
    printf("  %*s", width, text);
  }
  printf("\n");
  print_reasons(field, line);
  fflush(stdout);
}
