/* nn_rows.h - a row at a time; a unit takes row_chunk rows.
 *
 * Contract (layer_norm)
 *   0 x, 1 weight, 2 bias, 3 out, 4 mean, 5 rstd     1, 2, 4, 5 optional
 * Contract (layer_norm_back)
 *   0 x, 1 weight, 2 mean, 3 rstd, 4 d_out, 5 d_x    1 optional
 * Contract (rms_norm)
 *   0 x, 1 weight, 2 out, 3 rms                      1, 3 optional
 * Contract (rms_norm_back)
 *   0 x, 1 weight, 2 rms, 3 d_out, 4 d_x             1 optional
 * Contract (cross_entropy)
 *   0 logits, 1 targets, 2 losses, 3 lse
 * Contract (cross_entropy_back)
 *   0 logits, 1 targets, 2 lse, 3 mean, 4 d_logits   4 may be 0
 * Contract (gather)
 *   0 table, 1 ids, 2 out */
#ifndef CLT_NN_ROWS_H
#define CLT_NN_ROWS_H
#include "nn.h"

/* Rows of unit u, `at` being the place of each. */
#define NN_EACH_ROW(r)                                                         \
  for (clt_i64 r = u * A->row_chunk;                                           \
       r < MIN_OF((u + 1) * A->row_chunk, A->rows); r++)

NN_UNIT(layer_norm) {
  const clt_i64 D = A->dim;
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    GLOBAL float *out = buf[3] + nn_at(A, 3, place);
    vf sum = VSPLAT(0.0f), squares = VSPLAT(0.0f);
    for (clt_i64 x = 0; x < D;) {
      vf part = VSPLAT(0.0f);
      for (const clt_i64 stop = MIN_OF(x + NN_BLOCK, D); x < stop; x += LANES)
        part += nn_load(row, x, D - x);
      sum += part;
    }
    const float about = vsum(sum) / (float)D;
    /* The sum of the differences, which is what rounding has left, corrects the
     * mean and the variance. */
    sum = VSPLAT(0.0f);
    for (clt_i64 x = 0; x < D;) {
      vf part = VSPLAT(0.0f), square = VSPLAT(0.0f);
      for (const clt_i64 stop = MIN_OF(x + NN_BLOCK, D); x < stop; x += LANES) {
        const vf d = nn_keep(nn_load(row, x, D - x) - about, D - x, 0.0f);
        part += d;
        square = VFMA(d, d, square);
      }
      sum += part;
      squares += square;
    }
    const float off = vsum(sum) / (float)D;
    float variance = vsum(squares) / (float)D - off * off;
    if (variance < 0.0f) variance = 0.0f;
    const float mean = about + off, rstd = 1.0f / SQRT(variance + A->eps);
    for (clt_i64 x = 0; x < D; x += LANES) {
      vf y = ((nn_load(row, x, D - x) - about) - off) * rstd;
      if (nn_has(A, 1)) y *= nn_load(buf[1] + A->view[1].offset, x, D - x);
      if (nn_has(A, 2)) y += nn_load(buf[2] + A->view[2].offset, x, D - x);
      nn_store(out, x, D - x, y);
    }
    if (nn_has(A, 4)) buf[4][nn_at(A, 4, place)] = mean;
    if (nn_has(A, 5)) buf[5][nn_at(A, 5, place)] = rstd;
  }
}

/* d_x = rstd (g - mean(g) - n mean(g n)), g = d_out weight, n = (x - mean) rstd */
NN_UNIT(layer_norm_back) {
  const clt_i64 D = A->dim;
  GLOBAL const float *weight = buf[1] + A->view[1].offset;
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    GLOBAL const float *d_out = buf[4] + nn_at(A, 4, place);
    GLOBAL float *d_x = buf[5] + nn_at(A, 5, place);
    const float mean = buf[2][nn_at(A, 2, place)];
    const float rstd = buf[3][nn_at(A, 3, place)];
    vf sum = VSPLAT(0.0f), product = VSPLAT(0.0f);
    for (clt_i64 x = 0; x < D;) {
      vf part = VSPLAT(0.0f), with = VSPLAT(0.0f);
      for (const clt_i64 stop = MIN_OF(x + NN_BLOCK, D); x < stop; x += LANES) {
        vf g = nn_load(d_out, x, D - x);
        if (nn_has(A, 1)) g *= nn_load(weight, x, D - x);
        const vf n = (nn_load(row, x, D - x) - mean) * rstd;
        part += g;
        with += nn_keep(g * n, D - x, 0.0f);
      }
      sum += part;
      product += with;
    }
    const float mean_g = vsum(sum) / (float)D;
    const float mean_gn = vsum(product) / (float)D;
    for (clt_i64 x = 0; x < D; x += LANES) {
      vf g = nn_load(d_out, x, D - x);
      if (nn_has(A, 1)) g *= nn_load(weight, x, D - x);
      const vf n = (nn_load(row, x, D - x) - mean) * rstd;
      nn_put(d_x, x, D - x, rstd * (g - mean_g - n * mean_gn), A->accumulate);
    }
  }
}

NN_UNIT(rms_norm) {
  const clt_i64 D = A->dim;
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    GLOBAL float *out = buf[2] + nn_at(A, 2, place);
    vf squares = VSPLAT(0.0f);
    for (clt_i64 x = 0; x < D;) {
      vf part = VSPLAT(0.0f);
      for (const clt_i64 stop = MIN_OF(x + NN_BLOCK, D); x < stop; x += LANES) {
        const vf v = nn_load(row, x, D - x);
        part = VFMA(v, v, part);
      }
      squares += part;
    }
    const float rms = 1.0f / SQRT(vsum(squares) / (float)D + A->eps);
    for (clt_i64 x = 0; x < D; x += LANES) {
      vf y = nn_load(row, x, D - x) * rms;
      if (nn_has(A, 1)) y *= nn_load(buf[1] + A->view[1].offset, x, D - x);
      nn_store(out, x, D - x, y);
    }
    if (nn_has(A, 3)) buf[3][nn_at(A, 3, place)] = rms;
  }
}

/* d_x = rms (g - n mean(g n)), g = d_out weight, n = x rms */
NN_UNIT(rms_norm_back) {
  const clt_i64 D = A->dim;
  GLOBAL const float *weight = buf[1] + A->view[1].offset;
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    GLOBAL const float *d_out = buf[3] + nn_at(A, 3, place);
    GLOBAL float *d_x = buf[4] + nn_at(A, 4, place);
    const float rms = buf[2][nn_at(A, 2, place)];
    vf product = VSPLAT(0.0f);
    for (clt_i64 x = 0; x < D;) {
      vf with = VSPLAT(0.0f);
      for (const clt_i64 stop = MIN_OF(x + NN_BLOCK, D); x < stop; x += LANES) {
        vf g = nn_load(d_out, x, D - x);
        if (nn_has(A, 1)) g *= nn_load(weight, x, D - x);
        with = VFMA(g, nn_load(row, x, D - x) * rms, with);
      }
      product += with;
    }
    const float mean_gn = vsum(product) / (float)D;
    for (clt_i64 x = 0; x < D; x += LANES) {
      vf g = nn_load(d_out, x, D - x);
      if (nn_has(A, 1)) g *= nn_load(weight, x, D - x);
      const vf n = nn_load(row, x, D - x) * rms;
      nn_put(d_x, x, D - x, rms * (g - n * mean_gn), A->accumulate);
    }
  }
}

NN_UNIT(cross_entropy) {
  const clt_i64 V = A->dim;
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    vf top = VSPLAT(MINUS_INF), sum = VSPLAT(0.0f);
    for (clt_i64 x = 0; x < V; x += LANES)
      top = VMAX(top, nn_keep(nn_load(row, x, V - x), V - x, MINUS_INF));
    const float m = vmax_of(top); /* a NaN may hide here, not in the sum */
    for (clt_i64 x = 0; x < V;) {
      vf part = VSPLAT(0.0f);
      for (const clt_i64 stop = MIN_OF(x + NN_BLOCK, V); x < stop; x += LANES)
        part += exp2_v((nn_keep(nn_load(row, x, V - x), V - x, MINUS_INF) - m) *
                       NN_LOG2E);
      sum += part;
    }
    const float log_sum = LOG(vsum(sum));
    const int target = nn_id(A, 1, buf, place, CLT_NN_IGNORE - 1);
    float loss;
    if (target == CLT_NN_IGNORE)
      loss = 0.0f;
    else if (target < 0 || target >= A->n_ids)
      loss = NN_NAN;
    else /* not lse - x: where m is large, that cancels */
      loss = (m - row[target]) + log_sum;
    buf[2][nn_at(A, 2, place)] = loss;
    buf[3][nn_at(A, 3, place)] = m + log_sum;
  }
}

NN_UNIT(cross_entropy_back) {
  const clt_i64 V = A->dim;
  const float factor = A->value / buf[3][A->view[3].offset + A->view[3].s[3]];
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    GLOBAL float *out = buf[4] + nn_at(A, 4, place);
    const float lse = buf[2][nn_at(A, 2, place)];
    const int target = nn_id(A, 1, buf, place, CLT_NN_IGNORE - 1);
    if (target < 0 || target >= A->n_ids) {
      const vf all = VSPLAT(target == CLT_NN_IGNORE ? 0.0f : NN_NAN);
      for (clt_i64 x = 0; x < V; x += LANES) nn_store(out, x, V - x, all);
      continue;
    }
    const float at_target = exp2_s((row[target] - lse) * NN_LOG2E) - 1.0f;
    for (clt_i64 x = 0; x < V; x += LANES) {
      const vf p = exp2_v((nn_load(row, x, V - x) - lse) * NN_LOG2E);
      nn_store(out, x, V - x, p * factor);
    }
    out[target] = at_target * factor;
  }
}

NN_UNIT(gather) {
  const clt_i64 D = A->dim;
  NN_EACH_ROW(r) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL float *out = buf[2] + nn_at(A, 2, place);
    const int id = nn_id(A, 1, buf, place, -1);
    const int inside = id >= 0 && id < A->n_ids;
    const clt_i64 row = A->view[0].offset + (inside ? id * A->view[0].s[2] : 0);
    for (clt_i64 x = 0; x < D; x += LANES) {
      const int n = (int)MIN_OF((clt_i64)LANES, D - x);
      nn_store(out, x, D - x,
               inside ? load_n(buf[0], row + x, 1, n, A->table_dtype)
                      : VSPLAT(NN_NAN));
    }
  }
}

#endif /* CLT_NN_ROWS_H */
