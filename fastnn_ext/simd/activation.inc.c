/* Activations and their gradients over a contiguous range. */

static void NAME(relu)(void *y_, const void *x_, int64_t n, double alpha) {
    real *y = y_;
    const real *x = x_;
    int64_t i = 0;
    for (; i + W <= n; i += W) vstore(y + i, vmax(vload(x + i), vzero()));
    if (i < n) vstore_n(y + i, vmax(vload_n(x + i, (int)(n - i)), vzero()), (int)(n - i));
}

/* The gradient at 0 is 0, as PyTorch's; where x (and so y) is NaN it passes dy on. */
static void NAME(relu_grad)(void *dx_, const void *dy_, const void *y_, int64_t n, double alpha) {
    real *dx = dx_;
    const real *dy = dy_, *y = y_;
    int64_t i = 0;
    for (; i + W <= n; i += W) vstore(dx + i, vsel(vle(vload(y + i), vzero()), vzero(), vload(dy + i)));
    if (i < n) {
        int m = (int)(n - i);
        vstore_n(dx + i, vsel(vle(vload_n(y + i, m), vzero()), vzero(), vload_n(dy + i, m)), m);
    }
}

static const struct activation_kernels NAME(table) = {
    .forward = {[ACT_RELU] = NAME(relu)},
    .backward = {[ACT_RELU] = NAME(relu_grad)},
};
