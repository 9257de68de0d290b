/* Parameter updates: one sweep that reads and writes every array once, or by blocks that stay in the cache.
 *
 * The order of operations is PyTorch's (torch/optim, the plain loop over tensors), so that losses follow PyTorch's to
 * rounding over many steps. Where PyTorch leaves an operation out because its coefficient is zero, so does this:
 * 0 * inf would be NaN.
 *
 * UPDATE(name) is the new value of W parameters p for the gradient g, and gives their states s new values. there[i]
 * tells whether state i is kept, K(name) is a coefficient of the step.
 */
#define vsign NAME(vsign)
#define lerp NAME(lerp)
#define some NAME(some)
#define put NAME(put)
#define leftover NAME(leftover)
#define UPDATE(name) \
    INLINE vec NAME(name##_of)(vec p, vec g, vec *s, real *const *there, const struct name##_step *k)
#define K(name) vset((real)k->name)

/* -1, 0 or 1; NaN of NaN. */
INLINE vec vsign(vec v) { return vsel(vgt(v, vzero()), vset(1), vsel(vlt(v, vzero()), vset(-1), v)); }

/* a + gain * (b - a), from the nearer end: exact at both. */
INLINE vec lerp(vec a, vec b, double gain) {
    return gain < 0.5 ? vfma(vset((real)gain), b - a, a) : vfma(vset((real)(gain - 1)), b - a, b);
}

UPDATE(sgd) {
    if (there[0]) {
        s[0] = k->first ? g : vfma(g, K(gain), s[0] * K(momentum));
        g = k->nesterov ? vfma(s[0], K(momentum), g) : s[0];
    }
    return vfma(g, vneg(K(lr)), p);
}

UPDATE(adagrad) {
    (void)there;
    s[0] = vfma(g, g, k->first ? K(initial) : s[0]);
    return p - K(lr) * g / (vsqrt(s[0]) + K(eps));
}

UPDATE(adadelta) {
    (void)there;
    s[0] = vfma(K(gain) * g, g, s[0] * K(rho));
    g = vsqrt(s[1] + K(eps)) / vsqrt(s[0] + K(eps)) * g;
    s[1] = vfma(K(gain) * g, g, s[1] * K(rho));
    return p - K(lr) * g;
}

UPDATE(rmsprop) {
    vec v = s[0] = vfma(K(gain) * g, g, s[0] * K(alpha));
    if (there[2]) {
        s[2] = lerp(s[2], g, k->gain);
        v = vmax(vfma(vneg(s[2]), s[2], v), vzero()); /* a variance, which rounding may take below 0 */
    }
    g = g / (vsqrt(v) + K(eps));
    if (there[1]) g = s[1] = vfma(s[1], K(momentum), g);
    return p - K(lr) * g;
}

UPDATE(rprop) {
    (void)there;
    vec product = g * s[0], before = k->first ? K(initial) : s[1];
    vmask changed = vlt(product, vzero());
    vec factor = vsel(changed, K(eta_minus), vsel(vgt(product, vzero()), K(eta_plus), vset(1)));
    vec size = vmin(vmax(before * factor, K(least)), K(most));
    vec back = vsign(s[0]) * before; /* what the last step took away */
    s[1] = size;
    s[0] = k->zero ? vsel(changed, vzero(), g) : g;
    vec moved = p - vsign(s[0]) * size;
    return k->undo ? vsel(changed, p + back, moved) : moved;
}

UPDATE(adam) {
    s[0] = lerp(s[0], g, k->gain1);
    vec v = s[1] = vfma(K(gain2) * g, g, s[1] * K(beta2));
    if (there[2]) v = s[2] = vmax(s[2], v);
    return p - K(step_size) * s[0] / vfma(vsqrt(v), K(inverse_root), K(eps));
}

UPDATE(adamax) {
    (void)there;
    s[0] = lerp(s[0], g, k->gain1);
    s[1] = vmax(s[1] * K(beta2), vabs(g) + K(eps));
    return p - K(step_size) * s[0] / s[1];
}

UPDATE(nadam) {
    (void)there;
    s[0] = lerp(s[0], g, k->gain1);
    s[1] = vfma(K(gain2) * g, g, s[1] * K(beta2));
    return p - vfma(K(of_grad), g, K(of_mean) * s[0]) / vfma(vsqrt(s[1]), K(inverse_root), K(eps));
}

UPDATE(radam) {
    (void)there;
    s[0] = lerp(s[0], g, k->gain1);
    s[1] = vfma(K(gain2) * g, g, s[1] * K(beta2));
    vec step = K(step_size) * s[0];
    return p - (k->rectified ? step / (vsqrt(s[1]) + K(eps)) : step);
}

UPDATE(lion) {
    (void)there;
    vec direction = lerp(s[0], g, k->gain1);
    s[0] = lerp(s[0], g, k->gain2);
    return p - K(lr) * vsign(direction);
}

/* What comes before an update and behind it, where there is more than a gradient to take: by blocks in the cache. */
INLINE vec some(const real *x, int n) { return n == W ? vload(x) : vload_n(x, n); }
INLINE void put(real *x, vec v, int n) {
    if (n == W) vstore(x, v);
    else vstore_n(x, v, n);
}
static void NAME(take)(void *taken_, void *param_, const void *grad_, const void *noise_, int64_t n,
                       const struct optimizer_rule *rule) {
    const struct optimizer_rule r = *rule;
    real *taken = taken_, *param = param_;
    const real *grad = grad_, *noise = noise_;
    for (int64_t i = 0; i < n; i += W) {
        const int few = n - i < W ? (int)(n - i) : W;
        vec p = some(param + i, few), g = some(grad + i, few) * vset((real)r.scale);
        g = vmin(vmax(g, vset((real)-r.clip)), vset((real)r.clip));
        if (noise) g = vfma(some(noise + i, few), vset((real)r.noise), g);
        if (r.shrink != 1) put(param + i, p = p * vset((real)r.shrink), few);
        if (r.decay != 0) g = vfma(p, vset((real)r.decay), g);
        if (r.l1 != 0) g = vfma(vsign(p), vset((real)r.l1), g);
        put(taken + i, g, few);
    }
}

static void NAME(average)(void *average_, const void *param_, int64_t n, double share) {
    real *average = average_;
    const real *param = param_;
    for (int64_t i = 0; i < n; i += W) {
        const int few = n - i < W ? (int)(n - i) : W;
        vec p = some(param + i, few);
        put(average + i, share == 1 ? p : lerp(some(average + i, few), p, share), few);
    }
}

/* Fewer than W elements: copies of W, of which the others are 0. */
RARE void leftover(fnn_update *update, real *param, real *const *state, int states, int64_t begin, const real *grad,
                   int64_t n, double scale, const void *step) {
    real p[W] = {0}, g[W] = {0}, s[FNN_MOST_STATES][W] = {{0}};
    void *copies[FNN_MOST_STATES] = {0};
    size_t bytes = (size_t)n * sizeof(real);
    memcpy(p, param + begin, bytes);
    memcpy(g, grad + begin, bytes);
    for (int j = 0; j < states; j++) {
        if (!state[j]) continue;
        copies[j] = s[j];
        memcpy(s[j], state[j] + begin, bytes);
    }
    update(p, copies, g, W, scale, step);
    memcpy(param + begin, p, bytes);
    for (int j = 0; j < states; j++)
        if (state[j]) memcpy(state[j] + begin, s[j], bytes);
}

/* Coefficients are copied where no store can alias them. */
#define SWEEP(name, STATES)                                                                                 \
    static void NAME(name)(void *param_, void *const *states, const void *grad_, int64_t n, double scale,   \
                           const void *step) {                                                              \
        const struct name##_step k = *(const struct name##_step *)step;                                     \
        const vec sign = vset((real)scale);                                                                 \
        real *param = param_, *state[STATES];                                                               \
        const real *grad = grad_;                                                                           \
        for (int j = 0; j < STATES; j++) state[j] = states[j];                                              \
        int64_t i = 0;                                                                                      \
        for (; i + W <= n; i += W) {                                                                        \
            vec p = vload(param + i), g = vload(grad + i) * sign, s[STATES];                                \
            UNROLL for (int j = 0; j < STATES; j++) s[j] = state[j] ? vload(state[j] + i) : vzero();        \
            vstore(param + i, NAME(name##_of)(p, g, s, state, &k));                                         \
            UNROLL for (int j = 0; j < STATES; j++) if (state[j]) vstore(state[j] + i, s[j]);               \
        }                                                                                                   \
        if (i < n) leftover(NAME(name), param, state, STATES, i, grad, n - i, scale, step);                 \
    }
FNN_OPTIMIZERS(SWEEP)

/* In one order, whatever n is cut from. */
static double NAME(squares)(const void *x_, int64_t n) {
    const real *x = x_;
    vec sums[4] = {vzero(), vzero(), vzero(), vzero()};
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) UNROLL for (int j = 0; j < 4; j++) {
            vec v = vload(x + i + j * W);
            sums[j] = vfma(v, v, sums[j]);
        }
    for (; i < n; i += W) {
        vec v = n - i < W ? vload_n(x + i, (int)(n - i)) : vload(x + i);
        sums[0] = vfma(v, v, sums[0]);
    }
    return (double)vsum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

#define ENTRY(name, states) NAME(name),
static const struct optimizer_kernels NAME(table) = {NAME(squares), NAME(take), NAME(average), {FNN_OPTIMIZERS(ENTRY)}};

#undef UPDATE
#undef K
#undef SWEEP
#undef ENTRY
