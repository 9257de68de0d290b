#ifndef FNN_CONV2D_H
#define FNN_CONV2D_H
#include "isa.h"

/* Where outputs read. `x` is the first channel read of the first pixel of (n, h, w) pixels that lie
 * `pixel` elements apart; `depth` channels are read. Tap (i, j) of output (row, col) reads the pixel
 * (row * stride_h + i * step_h + top, col * stride_w + j * step_w + left); outside the image it
 * reads zeros. A forward pass is one such view; so is each residue of a gradient for the input. */
struct conv2d_view {
    const void *x;
    int64_t h, w, pixel, depth;
    int64_t taps_h, taps_w, step_h, step_w, stride_h, stride_w, top, left;
};

/* How taps find their pixels: in x itself, where no tap falls outside; in a zero-padded copy of what
 * the region reads; or in x, a pointer a tap, with outside taps sent to a pixel of zeros. */
enum { CONV_DIRECT, CONV_COPY, CONV_POINTERS };

/* Points of a square of 2 x 2 outputs, or of a channel's 3 x 3 weights; how many channels are summed before the next
 * are transformed; and, in bytes a channel and point, of how many squares a gradient for the weights is: see
 * winograd.h. */
enum { CONV_POINTS = 16, CONV_POINTS_DEPTH = 64, CONV_SQUARES_BYTES = 192 };

/* A stretch of the sum that reads consecutive elements from each pixel's pointer. */
struct conv2d_seg {
    int64_t row;     /* row of `table` */
    int64_t offset;  /* elements from the pointer */
    int64_t length;
    int64_t k;       /* the panel's row for its first element */
    int64_t tap_row; /* of the taps that it is of; k counts from that row's beginning, tap_row * taps_w * depth */
};

/* A row of a region: where column 0 reads and writes, in elements, and its rows of taps inside the image. */
struct conv2d_line {
    int64_t from, at;
    int32_t top, bottom;
};

/* Columns of a region whose columns of taps inside the image are [left, right). */
struct conv2d_run {
    int64_t col0, col1;
    int32_t left, right;
};

/* Pixels that follow each other in a region: no others than these taps of theirs are inside the image. */
struct conv2d_group {
    int64_t pixels;
    int32_t top, bottom, left, right;
};

/* A region of outputs: columns [col0, col1) of rows [row0, row1), an image having oh rows. */
struct conv2d_job {
    struct conv2d_view view;
    int64_t oh, row0, row1, col0, col1;
    void *y; /* output (image, row, col) starts at image * y_image + row * y_row + col * y_pixel */
    int64_t y_image, y_row, y_pixel;
    const void *bias;     /* (channels,) or NULL */
    const void *residual; /* laid out as y, or NULL: added before relu */
    const void *saved;    /* laid out as y, or NULL: outputs become 0 where it is <= 0 */
    int64_t relu, depthwise, mode;
    /* The view is of some of the taps or depth: y holds the sums of those before; others follow. */
    int64_t resumes, goes_on;
    int64_t few; /* pixels that do not fill a tile well */
    int64_t ow, square0, square1; /* winograd: instead of rows and columns, squares of 2 x 2 outputs, row by row */
    /* set by gather, in the caller's scratch */
    int64_t pixels;          /* (row1 - row0) * (col1 - col0) */
    int64_t *at;             /* (pixels,): offset of each output */
    const void **table;      /* (rows, pixels): where each output reads */
    struct conv2d_seg *segs;
    int64_t n_segs;
    int64_t clips; /* whether taps outside the image are left out */
    struct conv2d_group *groups;
    int64_t n_groups;
};

/* Weights as a panel: element (t, k, j) of (taps, depth, width) comes from
 * w[order[t] * tap_stride + k * depth_stride + (first + j) * channel_stride], times scale[first + j] if
 * there is a scale; columns from n on are 0. */
struct conv2d_pack_job {
    const void *w, *scale;
    const int64_t *order;
    int64_t taps, depth, tap_stride, depth_stride, channel_stride;
};

/* dw[tap, c, o] (+)= sum over the region's outputs of x[tap's pixel, c] * dy[output, o], for the
 * channels [depth0, depth1) of the view and [first, first + n) of dy. Depthwise: dw[c, tap], c's
 * taps dw_row apart, and [first, first + n) are the channels of both. */
struct conv2d_weight_job {
    struct conv2d_view view;
    int64_t oh, ow, row0, row1, col0, col1;
    /* winograd: squares of 2 x 2 outputs instead; and, where they are some of a sum's squares, what keeps the sums
     * (winograd_sums_bytes, else NULL), whether it has those of squares before, and whether others follow */
    int64_t square0, square1;
    void *sums;
    int64_t resumes, goes_on;
    int64_t block_rows, block_cols; /* outputs summed in registers before they are added to dw */
    int64_t depth0, depth1, first, n;
    const void *dy; /* channel 0 of this group; dy_pixel elements from output to output */
    int64_t dy_pixel;
    void *dw;    /* (taps, depth, dw_row), of this group */
    int64_t dw_row;
    void *dbias; /* (dw_row,) or NULL */
    int64_t accumulate, depthwise;
    void *scratch;
};

struct conv2d_kernels {
    int64_t lanes;   /* a panel holds 2 * lanes channels, or lanes where no more are left */
    int64_t pixels, narrow_pixels; /* of a register tile, for a full panel and for one of `lanes` channels */
    double rate;     /* multiply-adds a nanosecond, for estimates of cost */
    /* Rows [row, row + rows) of a panel, of taps * depth. */
    void (*pack)(void *out, const struct conv2d_pack_job *pack, int64_t row, int64_t rows, int64_t first, int64_t n);
    int64_t (*gather_bytes)(const struct conv2d_job *job);
    void (*gather)(struct conv2d_job *job, void *scratch);
    /* One panel over the region. `weights` is the panel; or, with `pack`, room for `room` elements of it,
     * which are packed as they are needed. */
    int64_t room;
    void (*panel)(const struct conv2d_job *job, void *weights, const struct conv2d_pack_job *pack, int64_t first,
                  int64_t n);
    /* 3 x 3 taps, strides and steps of 1: channels [first, first + n) of `width` over the job's squares, by fewer
     * products. `packed` is all weights, each block of winograd_depth rows in winograd_elements, by winograd_pack.
     * `spoilt`, (panels of these channels, squares), is 1 where outputs are not finite, which the direct sum may be;
     * returns how many are. */
    int64_t (*winograd_depth)(int64_t depth);
    int64_t (*winograd_elements)(int64_t rows, int64_t n);
    int64_t winograd_pack_bytes;
    void (*winograd_pack)(void *out, const struct conv2d_pack_job *pack, int64_t row, int64_t rows, int64_t first,
                          int64_t n, void *scratch);
    int64_t (*winograd_bytes)(int64_t depth, int64_t squares, int64_t n);
    int64_t (*winograd)(const struct conv2d_job *job, const void *packed, int64_t width, int64_t first, int64_t n,
                        unsigned char *spoilt, void *scratch);
    int64_t (*weight_grad_bytes)(const struct conv2d_weight_job *job);
    void (*weight_grad)(const struct conv2d_weight_job *job);
    /* The same for 3 x 3 taps, strides and steps of 1, by fewer products: of [depth0, depth1), at most
     * CONV_POINTS_DEPTH. Returns 1 where they are not finite: then dw is as it was if it was to be added to, and else
     * worth nothing. */
    int64_t (*winograd_grad_bytes)(const struct conv2d_weight_job *job);
    int64_t (*winograd_sums_bytes)(const struct conv2d_weight_job *job);
    int (*winograd_grad)(const struct conv2d_weight_job *job);
    /* out[i] = parts[0][i] + parts[1][i] + ..., the parts `stride` elements apart */
    void (*sum)(void *out, const void *parts, int64_t n, int64_t count, int64_t stride);
};

FNN_TABLES(conv2d)
#endif
