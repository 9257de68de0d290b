#ifndef FNN_POOL2D_H
#define FNN_POOL2D_H
#include "isa.h"

/* A pooling over images (n, ih, iw, c) -> (n, oh, ow, c), and the part of it to compute: channels [c0, c1) of
 * columns [col0, col1) of rows [row0, row1), all images' rows counted through. kh = 0: adaptive, the windows
 * being as even as they can be.
 *
 * Where a window, or the windows that hold an input, take too long, they are read in parts one after another:
 * down_parts parts of their rows times across_parts of their columns, of which this is one. It goes on from what
 * the parts before it have left in `out` and `index`. Then the channels are no more than a vector. */
struct pool2d_job {
    int64_t ih, iw, c, oh, ow;
    int64_t kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int64_t count_include_pad, divisor; /* of averages; divisor 0: what the window holds */
    int64_t row0, row1, col0, col1, c0, c1;
    int64_t down, down_parts, across, across_parts;
    void *out;      /* y, or dx */
    const void *in; /* x, or dy */
    void *index;    /* (n, oh, ow, c), NULL: not wanted */
    int64_t flat;   /* index is int32, the place row * iw + column in the image; else uint8, the place
                       row * kw + column in the window, which has at most 255 */
    void *scratch;
};

struct pool2d_kernels {
    int64_t lanes;
    /* Rows, columns and channels of y; maxima in parts where flat is set. */
    void (*max)(const struct pool2d_job *job);
    void (*avg)(const struct pool2d_job *job);
    /* Rows, columns and channels of dx. */
    void (*max_gather)(const struct pool2d_job *job);
    void (*avg_gather)(const struct pool2d_job *job);
    /* Rows of windows, which must not overlap, and all columns: writes the inputs that belong to them. */
    void (*max_scatter)(const struct pool2d_job *job);
    int64_t (*forward_bytes)(const struct pool2d_job *job);
    int64_t (*backward_bytes)(const struct pool2d_job *job);
};

FNN_TABLES(pool2d)
#endif
