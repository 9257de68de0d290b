/* 3 x 3 convolutions of stride 1 by F(2 x 2, 3 x 3): 16 products instead of 36 for each 2 x 2 outputs.
 * Part of conv2d.inc.c, whose tiles do the products; read twice, as it is.
 *
 * The 4 x 4 inputs of a square of 2 x 2 outputs become 16 points B' d B, the weights of two channels
 * 16 points G g G'; at each point the products are summed over the channels, and A' m A are the
 * outputs. B and A hold 0, 1 and -1, G also 1/2, so that small integers come out exactly.
 * Source: S. Winograd, Arithmetic Complexity of Computations (1980); A. Lavin and S. Gray, Fast
 * Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
 *
 * A number that is not finite (or a sum of finite ones that is too large) spoils all outputs whose points it has a part
 * in, though the sum over the taps may be finite there, or infinite where these are NaN. Each output that reads such a
 * number has a point that it spoils, so that results say it themselves: where one is not finite, what it belongs to is
 * reported, and the caller makes it by the direct kernels. Ordinary numbers pay one operation for four results.
 */

#ifndef WINOGRAD_ONCE
#define WINOGRAD_ONCE
/* Panels of weights that are transformed at a time. */
enum { PACK_PANELS = 2 };
#endif

INLINE int64_t NAME(winograd_width)(int64_t n) { return n > W ? LANES2 : W; }

/* From point to point, in elements: not a multiple of 4 KiB, lest all 16 fall into one set of L1. */
INLINE int64_t NAME(winograd_plane)(int64_t rows, int64_t each) { return rows * each + 64 / (int64_t)sizeof(real); }

/* Channels that are summed before the next are transformed: equal blocks, in whole vectors. */
static int64_t NAME(winograd_depth)(int64_t depth) {
    const int64_t blocks = (depth + CONV_POINTS_DEPTH - 1) / CONV_POINTS_DEPTH;
    return ((depth + blocks - 1) / blocks + W - 1) / W * W;
}

/* Elements of the weights' points for n channels of a block of rows: panels of (CONV_POINTS, rows, width). */
static int64_t NAME(winograd_elements)(int64_t rows, int64_t n) {
    const int64_t last = n % LANES2, whole = n / LANES2 * NAME(winograd_plane)(rows, LANES2);
    return CONV_POINTS * (whole + (last ? NAME(winograd_plane)(rows, NAME(winograd_width)(last)) : 0));
}

/* out[point * plane + i] from taps[tap * tap_plane + i]. */
static void NAME(winograd_weights)(real *out, int64_t plane, const real *taps, int64_t tap_plane, int64_t n) {
    for (int64_t i = 0; i < n; i += W) {
        vec half[4][3];
        UNROLL for (int j = 0; j < 3; j++) {
            const vec g0 = vload(taps + j * tap_plane + i), g1 = vload(taps + (3 + j) * tap_plane + i),
                      g2 = vload(taps + (6 + j) * tap_plane + i);
            const vec outer = (g0 + g2) * vset((real)0.5), inner = g1 * vset((real)0.5);
            half[0][j] = g0, half[1][j] = outer + inner, half[2][j] = outer - inner, half[3][j] = g2;
        }
        UNROLL for (int j = 0; j < 4; j++) {
            const vec outer = (half[j][0] + half[j][2]) * vset((real)0.5), inner = half[j][1] * vset((real)0.5);
            vstore(out + 4 * j * plane + i, half[j][0]);
            vstore(out + (4 * j + 1) * plane + i, outer + inner);
            vstore(out + (4 * j + 2) * plane + i, outer - inner);
            vstore(out + (4 * j + 3) * plane + i, half[j][2]);
        }
    }
}

/* Ask memory for a tap of rows [k, k + rows) and channels [first, first + n). */
static void NAME(winograd_fetch)(const struct conv2d_pack_job *pack, int tap, int64_t k, int64_t rows, int64_t first,
                                 int64_t n) {
    const int by_row = pack->channel_stride == 1;
    const int64_t lines = by_row ? rows : n, length = by_row ? n : rows;
    const int64_t step = by_row ? pack->depth_stride : pack->channel_stride;
    const real *w = (const real *)pack->w + pack->order[tap] * pack->tap_stride + k * pack->depth_stride +
                    first * pack->channel_stride;
    for (int64_t i = 0; i < lines; i++, w += step) {
        for (int64_t j = 0; j < length; j += 64 / (int64_t)sizeof(real)) __builtin_prefetch(w + j, 0, 2);
        __builtin_prefetch(w + length - 1, 0, 2);
    }
}

/* The points of rows [k, k + rows) for channels [first, first + n). Tap after tap of two panels is copied before they
 * are transformed, and the next one asked for meanwhile: nine taps may all lie in one set of a cache. */
static void NAME(winograd_pack)(void *out, const struct conv2d_pack_job *pack, int64_t k, int64_t rows, int64_t first,
                                int64_t n, void *scratch) {
    const int64_t plane = NAME(winograd_plane)(rows, LANES2);
    real *taps = scratch;
    for (int64_t c0 = 0, some; c0 < n; c0 += some) {
        some = smaller(n - c0, PACK_PANELS * LANES2);
        for (int tap = 0; tap < 9; tap++) {
            if (tap < 8) NAME(winograd_fetch)(pack, tap + 1, k, rows, first + c0, some);
            for (int64_t c = 0; c < some; c += LANES2)
                NAME(pack_rows)(taps + (c / LANES2 * 9 + tap) * plane, pack, tap * pack->depth + k, rows,
                                first + c0 + c, smaller(some - c, LANES2));
        }
        for (int64_t c = 0; c < some; c += LANES2) {
            const int64_t width = NAME(winograd_width)(smaller(some - c, LANES2));
            real *to = (real *)out + NAME(winograd_elements)(rows, c0 + c);
            NAME(winograd_weights)(to, NAME(winograd_plane)(rows, width), taps + c / LANES2 * 9 * plane, plane,
                                   rows * width);
        }
    }
}

/* The points of one square: v[point * plane + c] of the 4 x 4 pixels at x. */
INLINE void NAME(winograd_square)(real *v, int64_t plane, const real *x, int64_t line, int64_t pixel, int64_t n) {
    for (int64_t c = 0; c < n; c += W) {
        const int some = (int)smaller(n - c, W);
        UNROLL for (int i = 0; i < 4; i++) {
            const real *a = x + (i == 0 ? 0 : i == 2 ? 2 : 1) * line + c;
            const real *b = x + (i == 3 ? 3 : i == 2 ? 1 : 2) * line + c;
            vec d[4];
            if (some == W) {
                UNROLL for (int j = 0; j < 4; j++) {
                    const vec p = vload(a + j * pixel), q = vload(b + j * pixel);
                    d[j] = i == 1 ? p + q : p - q;
                }
            } else {
                UNROLL for (int j = 0; j < 4; j++) {
                    const vec p = vload_n(a + j * pixel, some), q = vload_n(b + j * pixel, some);
                    d[j] = i == 1 ? p + q : p - q;
                }
            }
            real *to = v + 4 * i * plane + c;
            vstore(to, d[0] - d[2]);
            vstore(to + plane, d[1] + d[2]);
            vstore(to + 2 * plane, d[2] - d[1]);
            vstore(to + 3 * plane, d[1] - d[3]);
        }
    }
}

/* Where a square lies. */
struct NAME(square) { int64_t image, row, col; };

INLINE struct NAME(square) NAME(square_of)(const struct conv2d_job *t, int64_t index) {
    const int64_t across = (t->ow + 1) / 2, down = (t->oh + 1) / 2;
    return (struct NAME(square)){index / (across * down), index / across % down * 2, index % across * 2};
}

/* The points of channels [c0, c0 + n) of the job's squares: (CONV_POINTS, squares, n rounded up to whole vectors). */
static void NAME(winograd_inputs)(real *points, int64_t plane, int64_t each, const struct conv2d_job *t, int64_t c0,
                                  int64_t n) {
    const struct conv2d_view *v = &t->view;
    const int64_t line = v->w * v->pixel;
    real patch[4 * 4 * CONV_POINTS_DEPTH];
    for (int64_t i = t->square0; i < t->square1; i++, points += each) {
        const struct NAME(square) s = NAME(square_of)(t, i);
        const int64_t top = s.row + v->top, left = s.col + v->left;
        const real *x = (const real *)v->x + ((s.image * v->h + top) * v->w + left) * v->pixel + c0;
        if (top >= 0 && left >= 0 && top + 4 <= v->h && left + 4 <= v->w) {
            NAME(winograd_square)(points, plane, x, line, v->pixel, n);
            continue;
        }
        for (int64_t r = 0; r < 4; r++)
            for (int64_t c = 0; c < 4; c++) {
                real *to = patch + (r * 4 + c) * each;
                const int outside = top + r < 0 || top + r >= v->h || left + c < 0 || left + c >= v->w;
                if (outside) memset(to, 0, (size_t)each * sizeof(real));
                else memcpy(to, x + r * line + c * v->pixel, (size_t)n * sizeof(real));
            }
        NAME(winograd_square)(points, plane, patch, 4 * each, each, n);
    }
}

/* One vector of channels of a square's outputs, 2 x 2, from its sums. */
INLINE void NAME(winograd_sums)(vec out[2][2], const real *m, int64_t plane, vec bias) {
    vec d[2][4];
    UNROLL for (int j = 0; j < 4; j++) {
        const vec m1 = vload(m + (4 + j) * plane), m2 = vload(m + (8 + j) * plane);
        d[0][j] = vload(m + j * plane) + (m1 + m2);
        d[1][j] = (m1 - m2) - vload(m + (12 + j) * plane);
    }
    UNROLL for (int r = 0; r < 2; r++) {
        out[r][0] = d[r][0] + d[r][1] + d[r][2] + bias;
        out[r][1] = d[r][1] - d[r][2] - d[r][3] + bias;
    }
}

/* What is left to do for `some` outputs that belong at y[to]. */
INLINE void NAME(winograd_finish)(const struct conv2d_job *t, int64_t to, vec v, const int some) {
    const real *residual = (const real *)t->residual + to, *saved = (const real *)t->saved + to;
    if (t->residual) v = v + (some == W ? vload(residual) : vload_n(residual, some));
    if (t->relu) v = vmax(v, vzero());
    if (t->saved) v = vsel(vle(some == W ? vload(saved) : vload_n(saved, some), vzero()), vzero(), v);
    NAME(store_some)((real *)t->y + to, v, some);
}

/* spoilt[i] = whether an output of the job's square i is not finite; returns how many are so. */
RARE int64_t NAME(winograd_spoilt)(unsigned char *spoilt, const real *sums, int64_t plane, const struct conv2d_job *t,
                                   int64_t n) {
    const int64_t width = NAME(winograd_width)(n);
    int64_t count = 0;
    for (int64_t i = t->square0; i < t->square1; i++, sums += width) {
        const struct NAME(square) s = NAME(square_of)(t, i);
        vec nothing = vzero();
        for (int64_t c = 0; c < n; c += W) {
            vec out[2][2];
            NAME(winograd_sums)(out, sums + c, plane, vzero());
            for (int r = 0; r < 2 && s.row + r < t->oh; r++)
                for (int j = 0; j < 2 && s.col + j < t->ow; j++) nothing = nothing + (out[r][j] - out[r][j]);
        }
        count += *spoilt++ = (unsigned char)vhasnan(nothing);
    }
    return count;
}

/* The outputs of the job's squares from their sums, (CONV_POINTS, squares, width); which of them are not finite, and
 * how many squares these are. */
static int64_t NAME(winograd_outputs)(unsigned char *spoilt, const real *sums, int64_t plane,
                                      const struct conv2d_job *t, int64_t first, int64_t n) {
    const int64_t width = NAME(winograd_width)(n);
    const real *begin = sums;
    real bias[LANES2] = {0};
    vec nothing = vzero(); /* NaN after an output that is not finite, or four finite ones whose sum is not */
    if (t->bias) memcpy(bias, (const real *)t->bias + first, (size_t)n * sizeof(real));
    for (int64_t i = t->square0; i < t->square1; i++, sums += width) {
        const struct NAME(square) s = NAME(square_of)(t, i);
        const int64_t at = s.image * t->y_image + s.row * t->y_row + s.col * t->y_pixel + first;
        const int rows = s.row + 1 < t->oh ? 2 : 1, cols = s.col + 1 < t->ow ? 2 : 1;
        for (int64_t c = 0; c < n; c += W) {
            const int some = (int)smaller(n - c, W);
            vec out[2][2];
            NAME(winograd_sums)(out, sums + c, plane, vload(bias + c));
            nothing = vfma((out[0][0] + out[0][1]) + (out[1][0] + out[1][1]), vzero(), nothing);
            for (int r = 0; r < rows; r++)
                for (int j = 0; j < cols; j++) {
                    const int64_t to = at + r * t->y_row + j * t->y_pixel + c;
                    if (some == W) NAME(winograd_finish)(t, to, out[r][j], W);
                    else NAME(winograd_finish)(t, to, out[r][j], some);
                }
        }
    }
    return vhasnan(nothing) ? NAME(winograd_spoilt)(spoilt, begin, plane, t, n) : 0;
}

/* Scratch of a chunk of so many squares and channels, each the sum over `depth` others. */
static int64_t NAME(winograd_bytes)(int64_t depth, int64_t squares, int64_t n) {
    const int64_t panels = (n + LANES2 - 1) / LANES2;
    const int64_t planes = NAME(winograd_plane)(squares, NAME(winograd_depth)(depth)) +
                           panels * NAME(winograd_plane)(squares, LANES2);
    return align64(squares * (int64_t)(sizeof(int64_t) + sizeof(void *))) +
           CONV_POINTS * planes * (int64_t)sizeof(real);
}

/* Channels [first, first + n) of `width` over the job's squares. */
static int64_t NAME(winograd)(const struct conv2d_job *t, const void *packed, int64_t width, int64_t first, int64_t n,
                              unsigned char *spoilt, void *scratch) {
    const int64_t line = 64 / (int64_t)sizeof(real);
    const int64_t squares = t->square1 - t->square0, depth = t->view.depth, each = NAME(winograd_depth)(depth);
    const int64_t plane = NAME(winograd_plane)(squares, each), sum_plane = NAME(winograd_plane)(squares, LANES2);
    int64_t *at = scratch;
    const void **table = (const void **)(at + squares);
    real *points = (real *)((char *)scratch + align64(squares * (int64_t)(sizeof *at + sizeof *table)));
    real *sums = points + CONV_POINTS * plane;
    static const real zeros[LANES2];
    struct conv2d_job product = {.pixels = squares, .at = at, .table = table};
    int64_t count_spoilt = 0;
    memset(spoilt, 0, (size_t)((n + LANES2 - 1) / LANES2 * squares));
    for (int64_t i = 0; i < squares; i++) table[i] = points + i * each;
    for (int64_t k = 0; k < depth; k += each) {
        const int64_t rows = smaller(depth - k, each);
        const real *w = (const real *)packed + k / each * NAME(winograd_elements)(each, width) +
                        NAME(winograd_elements)(rows, first);
        NAME(winograd_inputs)(points, plane, each, t, k, rows);
        for (int64_t c = 0; c < n; c += LANES2) {
            const int64_t channels = smaller(n - c, LANES2), panel = NAME(winograd_width)(channels);
            const int64_t next = NAME(winograd_plane)(rows, panel); /* from a point's weights to the next one's */
            const NAME(tile_fn) *tiles = panel > W ? NAME(wide) : NAME(narrow);
            const int64_t most = panel > W ? TILE2 : TILE1, count = (squares + most - 1) / most;
            real *to = sums + c / LANES2 * CONV_POINTS * sum_plane;
            for (int64_t i = 0; i < squares; i++) at[i] = i * panel;
            for (int64_t point = 0; point < CONV_POINTS; point++, w += next) {
                const struct conv2d_seg seg = {.offset = point * plane, .length = rows};
                const struct NAME(tile_block) b = {
                    .seg = &seg,
                    .end = &seg + 1,
                    .weights = w,
                    .bias = zeros,
                    .n = panel,
                    .begins = k == 0,
                };
                product.y = to + point * sum_plane;
                for (int64_t i = 0; i < count; i++) {
                    const int64_t p = squares * i / count, end = next * (i + 1) / count;
                    for (int64_t j = next * i / count; j < end; j += line) __builtin_prefetch(w + next + j);
                    tiles[squares * (i + 1) / count - p](&product, &b, p);
                }
            }
            if (k + rows == depth)
                count_spoilt += NAME(winograd_outputs)(spoilt + c / LANES2 * squares, to, sum_plane, t, first + c,
                                                       channels);
        }
    }
    return count_spoilt;
}

/* ---- gradient for the weights: G' m G, m being the sums of products of B' d B and A dy A' ------------------- */

/* The points of the gradients of some squares, panels of (CONV_POINTS, squares, width); dbias (+)= their sums. */
static void NAME(winograd_gradients)(real *points, int64_t plane, const struct conv2d_weight_job *t,
                                     const struct conv2d_job *squares, real *dbias, int begins) {
    const int64_t line = t->ow * t->dy_pixel, image = t->oh * line;
    for (int64_t c0 = 0; c0 < t->n; c0 += W) {
        const int64_t panel = c0 / LANES2, width = NAME(winograd_width)(t->n - panel * LANES2);
        const int some = (int)smaller(t->n - c0, W);
        real *to = points + panel * CONV_POINTS * plane + c0 % LANES2;
        vec sum = vzero();
        for (int64_t i = squares->square0; i < squares->square1; i++, to += width) {
            const struct NAME(square) s = NAME(square_of)(squares, i);
            const real *dy = (const real *)t->dy + s.image * image + s.row * line + s.col * t->dy_pixel + t->first + c0;
            const int rows = s.row + 1 < t->oh ? 2 : 1, cols = s.col + 1 < t->ow ? 2 : 1;
            vec g[2][2], half[4][2];
            UNROLL for (int q = 0; q < 4; q++) {
                const real *from = dy + q / 2 * line + q % 2 * t->dy_pixel;
                const int outside = q / 2 >= rows || q % 2 >= cols;
                g[q / 2][q % 2] = outside ? vzero() : some == W ? vload(from) : vload_n(from, some);
            }
            sum = sum + ((g[0][0] + g[0][1]) + (g[1][0] + g[1][1]));
            UNROLL for (int j = 0; j < 2; j++) {
                half[0][j] = g[0][j], half[1][j] = g[0][j] + g[1][j];
                half[2][j] = g[0][j] - g[1][j], half[3][j] = vneg(g[1][j]);
            }
            UNROLL for (int r = 0; r < 4; r++) {
                vstore(to + 4 * r * plane, half[r][0]);
                vstore(to + (4 * r + 1) * plane, half[r][0] + half[r][1]);
                vstore(to + (4 * r + 2) * plane, half[r][0] - half[r][1]);
                vstore(to + (4 * r + 3) * plane, vneg(half[r][1]));
            }
        }
        if (dbias) NAME(store_some)(dbias + c0, begins ? sum : vload_n(dbias + c0, some) + sum, some);
    }
}

/* The nine taps of `some` weights from their sums: to[(3 i + j) * tap] (+)=, if `to` is not NULL. Returns their sum. */
INLINE vec NAME(winograd_nine)(real *to, int64_t tap, const real *m, int64_t plane, const int some, int accumulate) {
    const vec half = vset((real)0.5);
    vec d[3][4], sum[3];
    UNROLL for (int j = 0; j < 4; j++) {
        const vec m1 = vload(m + (4 + j) * plane), m2 = vload(m + (8 + j) * plane), both = (m1 + m2) * half;
        d[0][j] = vload(m + j * plane) + both;
        d[1][j] = (m1 - m2) * half;
        d[2][j] = both + vload(m + (12 + j) * plane);
    }
    UNROLL for (int i = 0; i < 3; i++) {
        const vec both = (d[i][1] + d[i][2]) * half;
        const vec taps[3] = {d[i][0] + both, (d[i][1] - d[i][2]) * half, both + d[i][3]};
        sum[i] = taps[0] + taps[1] + taps[2];
        if (to) {
            UNROLL for (int j = 0; j < 3; j++, to += tap) {
                vec v = taps[j];
                if (accumulate) v = (some == W ? vload(to) : vload_n(to, some)) + v;
                NAME(store_some)(to, v, some);
            }
        }
    }
    return sum[0] + sum[1] + sum[2];
}

/* Whether what the sums come to is not finite, or so large that nine of them are not. */
static __attribute__((noinline)) int NAME(winograd_spoils)(const struct conv2d_weight_job *t, const real *sums,
                                                           int64_t plane, int64_t pitch) {
    vec nothing = vzero();
    for (int64_t k = t->depth0; k < t->depth1; k++, sums += pitch)
        for (int64_t c = 0; c < t->n; c += W)
            nothing = vfma(NAME(winograd_nine)(NULL, 0, sums + c, plane, W, 0), vzero(), nothing);
    return vhasnan(nothing);
}

/* dw (+)= what the sums come to; or says that it is not finite, and leaves dw as it is if it was to be added to. */
static int NAME(winograd_taps)(const struct conv2d_weight_job *t, const real *sums, int64_t plane, int64_t pitch) {
    const int64_t tap = t->view.depth * t->dw_row;
    vec nothing = vzero();
    if (t->accumulate && NAME(winograd_spoils)(t, sums, plane, pitch)) return 1;
    for (int64_t k = t->depth0; k < t->depth1; k++, sums += pitch)
        for (int64_t c = 0; c < t->n; c += W) {
            const int some = (int)smaller(t->n - c, W);
            real *to = (real *)t->dw + k * t->dw_row + t->first + c;
            vec nine;
            if (some == W) nine = NAME(winograd_nine)(to, tap, sums + c, plane, W, t->accumulate);
            else nine = NAME(winograd_nine)(to, tap, sums + c, plane, some, t->accumulate);
            nothing = vfma(nine, vzero(), nothing);
        }
    return vhasnan(nothing);
}

struct NAME(winograd_plan) { int64_t squares, each, panels, points, gradients, pitch, sums; };

INLINE struct NAME(winograd_plan) NAME(plan_winograd)(const struct conv2d_weight_job *t) {
    struct NAME(winograd_plan) p;
    p.squares = CONV_SQUARES_BYTES / (int64_t)sizeof(real);
    p.each = (t->depth1 - t->depth0 + W - 1) / W * W;
    p.panels = (t->n + LANES2 - 1) / LANES2;
    p.pitch = p.panels * LANES2;
    p.points = NAME(winograd_plane)(p.squares, p.each);
    p.gradients = NAME(winograd_plane)(p.squares, LANES2);
    p.sums = NAME(winograd_plane)(p.each, p.pitch);
    return p;
}

static int64_t NAME(winograd_sums_bytes)(const struct conv2d_weight_job *t) {
    return CONV_POINTS * NAME(plan_winograd)(t).sums * (int64_t)sizeof(real);
}

static int64_t NAME(winograd_grad_bytes)(const struct conv2d_weight_job *t) {
    const struct NAME(winograd_plan) p = NAME(plan_winograd)(t);
    return CONV_POINTS * (p.points + p.panels * p.gradients) * (int64_t)sizeof(real) + NAME(winograd_sums_bytes)(t);
}

static int NAME(winograd_grad)(const struct conv2d_weight_job *t) {
    const struct NAME(winograd_plan) plan = NAME(plan_winograd)(t);
    const int64_t rows = t->depth1 - t->depth0, first_line = 0;
    int64_t offsets[CONV_POINTS_DEPTH];
    real *points = t->scratch, *gradients = points + CONV_POINTS * plan.points;
    real *sums = t->sums ? t->sums : gradients + plan.panels * CONV_POINTS * plan.gradients;
    struct conv2d_job block = {.view = t->view, .oh = t->oh, .ow = t->ow};
    struct NAME(weight_block) b = {.lines = &first_line, .h = 1, .spacing = plan.each, .stride = 1};
    for (int64_t m = 0; m < rows; m++) offsets[m] = m;
    for (int64_t i = t->square0; i < t->square1; i = block.square1) {
        const int begins = i == t->square0 && !t->resumes;
        block.square0 = i;
        block.square1 = smaller(i + plan.squares, t->square1);
        NAME(winograd_inputs)(points, plan.points, plan.each, &block, t->depth0, rows);
        NAME(winograd_gradients)(gradients, plan.gradients, t, &block, t->dbias ? (real *)t->dbias + t->first : NULL,
                                 begins && !t->accumulate);
        b.w = block.square1 - i;
        for (int64_t point = 0; point < CONV_POINTS; point++)
            for (int64_t j = 0; j < plan.panels; j++) {
                const int64_t width = NAME(winograd_width)(t->n - j * LANES2), most = width > W ? TILE2 : TILE1;
                const int64_t count = (rows + most - 1) / most;
                const NAME(weight_fn) *tiles = width > W ? NAME(weight_wide) : NAME(weight_narrow);
                real *out = sums + point * plan.sums + j * LANES2;
                b.x = points + point * plan.points;
                b.dy = gradients + (j * CONV_POINTS + point) * plan.gradients;
                for (int64_t tile = 0; tile < count; tile++) {
                    const int64_t m = rows * tile / count, size = rows * (tile + 1) / count - m;
                    tiles[size](&b, offsets + m, out + m * plan.pitch, plan.pitch, width, begins);
                }
            }
    }
    return t->goes_on ? 0 : NAME(winograd_taps)(t, sums, plan.sums, plan.pitch);
}
