/* Parameter updates: one sweep that reads and writes every array once.
 *
 * The order of operations is PyTorch's (torch/optim/sgd.py, adam.py and rmsprop.py, the plain loop over
 * tensors), so that losses follow PyTorch's to rounding over many steps. Where PyTorch leaves an
 * operation out because its coefficient is zero, so does this: 0 * inf would be NaN.
 */
#define part_load NAME(part_load)
#define part_store NAME(part_store)
#define sgd_part NAME(sgd_part)
#define adam_part NAME(adam_part)
#define rmsprop_part NAME(rmsprop_part)

INLINE vec part_load(const real *p, int m) { return m == W ? vload(p) : vload_n(p, m); }
INLINE void part_store(real *p, vec v, int m) {
    if (m == W) vstore(p, v);
    else vstore_n(p, v, m);
}

INLINE void sgd_part(real *param, real *buffer, const real *grad, int m, const struct sgd_step *s) {
    vec p = part_load(param, m), g = part_load(grad, m);
    if (s->maximize) g = vneg(g);
    if (s->weight_decay != 0) g = vfma(p, vset((real)s->weight_decay), g);
    if (buffer) {
        vec momentum = vset((real)s->momentum);
        vec b = s->first ? g : vfma(g, vset((real)s->gain), part_load(buffer, m) * momentum);
        part_store(buffer, b, m);
        g = s->nesterov ? vfma(b, momentum, g) : b;
    }
    part_store(param, vfma(g, vset((real)-s->lr), p), m);
}

static void NAME(sgd)(void *param_, void *buffer_, const void *grad_, int64_t n, const struct sgd_step *step) {
    const struct sgd_step s = *step; /* a copy that no store below can alias */
    real *param = param_, *buffer = buffer_;
    const real *grad = grad_;
    int64_t i = 0;
    for (; i + W <= n; i += W) sgd_part(param + i, buffer ? buffer + i : NULL, grad + i, W, &s);
    if (i < n) sgd_part(param + i, buffer ? buffer + i : NULL, grad + i, (int)(n - i), &s);
}

INLINE void adam_part(real *param, real *m_, real *v_, real *vmax_, const real *grad, int n, const struct adam_step *s) {
    vec p = part_load(param, n), g = part_load(grad, n), m = part_load(m_, n), v = part_load(v_, n);
    if (s->maximize) g = vneg(g);
    if (s->weight_decay != 0) {
        if (s->decoupled) p = p * vset((real)s->shrink);
        else g = vfma(p, vset((real)s->weight_decay), g);
    }
    /* Linear interpolation from the nearer end: exact at both. */
    m = s->gain1 < 0.5 ? vfma(vset((real)s->gain1), g - m, m) : vfma(vset((real)(s->gain1 - 1)), g - m, g);
    v = vfma(vset((real)s->gain2) * g, g, v * vset((real)s->beta2));
    part_store(m_, m, n);
    part_store(v_, v, n);
    if (vmax_) {
        v = vmax(part_load(vmax_, n), v);
        part_store(vmax_, v, n);
    }
    vec denominator = vfma(vsqrt(v), vset((real)s->inverse_root), vset((real)s->eps));
    part_store(param, p - vset((real)s->step_size) * m / denominator, n);
}

static void NAME(adam)(void *param_, void *m_, void *v_, void *vmax_, const void *grad_, int64_t n,
                       const struct adam_step *step) {
    const struct adam_step s = *step;
    real *param = param_, *m = m_, *v = v_, *max = vmax_;
    const real *grad = grad_;
    int64_t i = 0;
    for (; i + W <= n; i += W) adam_part(param + i, m + i, v + i, max ? max + i : NULL, grad + i, W, &s);
    if (i < n) adam_part(param + i, m + i, v + i, max ? max + i : NULL, grad + i, (int)(n - i), &s);
}

INLINE void rmsprop_part(real *param, real *square, real *buffer, real *mean, const real *grad, int m,
                         const struct rmsprop_step *s) {
    vec p = part_load(param, m), g = part_load(grad, m), v = part_load(square, m), gain = vset((real)s->gain);
    if (s->maximize) g = vneg(g);
    if (s->weight_decay != 0) g = vfma(p, vset((real)s->weight_decay), g);
    v = vfma(gain * g, g, v * vset((real)s->alpha));
    part_store(square, v, m);
    if (mean) {
        vec a = part_load(mean, m);
        a = s->gain < 0.5 ? vfma(gain, g - a, a) : vfma(vset((real)(s->gain - 1)), g - a, g);
        part_store(mean, a, m);
        v = vmax(vfma(vneg(a), a, v), vzero()); /* a variance, which rounding may take below 0 */
    }
    g = g / (vsqrt(v) + vset((real)s->eps));
    if (buffer) {
        g = vfma(part_load(buffer, m), vset((real)s->momentum), g);
        part_store(buffer, g, m);
    }
    part_store(param, vfma(g, vset((real)-s->lr), p), m);
}

static void NAME(rmsprop)(void *param_, void *square_, void *buffer_, void *mean_, const void *grad_, int64_t n,
                          const struct rmsprop_step *step) {
    const struct rmsprop_step s = *step;
    real *param = param_, *square = square_, *buffer = buffer_, *mean = mean_;
    const real *grad = grad_;
    for (int64_t i = 0; i < n; i += W) {
        int m = n - i < W ? (int)(n - i) : W;
        rmsprop_part(param + i, square + i, buffer ? buffer + i : NULL, mean ? mean + i : NULL, grad + i, m, &s);
    }
}

static const struct optimizer_kernels NAME(table) = {.sgd = NAME(sgd), .adam = NAME(adam), .rmsprop = NAME(rmsprop)};
