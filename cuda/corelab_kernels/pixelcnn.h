// Images drawn pixel by pixel from a PixelCNN, of which every layer computes only what is new.
//
// One body, `Sampler`, for a CPU and for a GPU. It is run by a team that works on a group of images
// together: one thread of the CPU, or some blocks of the GPU. A team has five functions: `product`
// adds up a matrix product, `each` calls a function with every element of a map, `alone` with every
// image; `sync` and `share` wait until all members are done. An element of a product is always the
// same member's if images, places and n are the same.
//
// A team's blocks each have all of its memory, and do all but products for themselves: what a
// member writes in `each` or `alone`, those of its block may read behind the next `sync`. A product
// is written by a part of it from each block, to all blocks' memories, or by each block to its own.
// It may be read behind the next `share`; and what it is written to, none may have touched since the
// last one, but for products that it goes on with. A team says with AHEAD whether some of its memory
// is near, so that it pays to copy there what is soon needed.
//
// A sum is taken in the order that is written here, one fma for each term, so the images depend
// neither on the team nor on the size of the group.
//
// The networks are corelab_nets.gated.Gated and corelab_nets.plusplus.PlusPlus, without attention;
// corelab_nets/kernel.py packs their weights in the order in which they are needed, first those for
// a row, then those for a pixel: the kernel of a convolution as [rows][columns][inputs][outputs],
// every part beginning at a multiple of ALIGN.
#pragma once

#include "arithmetic.h"

namespace corelab {

constexpr int32 ALIGN = 32;   // numbers
constexpr int32 CHUNK = 16;   // levels of which the probabilities are summed together
constexpr int32 WINDOW = 4;   // columns of a map of which no more than these and their margin count
constexpr int32 SHADES = 256;  // levels that a mixture of logistics knows

enum Kind : int32 { GATED = 0, PLUSPLUS = 1 };

struct Network {
    int32 kind;
    int32 height, width;  // H, W
    int32 channels;       // C, the sub-pixels of a pixel
    int32 levels;         // that a sub-pixel can have
    int32 embed;          // numbers that encode a level
    int32 layers;
    int32 features;       // channels of a layer
    int32 first, kernel;  // height and width of the uncut kernels of a gated network
    int32 hidden;         // units of the head for each sub-pixel
    int32 outputs;        // parameters of a sub-pixel
    int32 components;     // logistics in its mixture, or 0: the parameters are log-probabilities
};

template <class T> struct Task {
    Network net;
    const T* weights;
    const T* context;  // [N][H][W][channels that the layers take]; a stride may be 0
    int64 context_image, context_row, context_place;
    const T* uniforms;  // [N][C][H][W], below 1
    int64* symbols;     // the same, of which the first GIVEN rows are given
    int32 images, given;
    T temperature;
    int32 top_k;  // 0: all
    T* record;    // [N][H][W][C][outputs], the parameters that were drawn from, or null
    int64* failed;  // [N]: 0, or 1 + the first sub-pixel, counted by pixels, without a distribution
};

// Hands out parts of a memory one after the other; without a memory it only counts.
template <class T> struct Cursor {
    T* base;
    int64 used;

    CORELAB_HD T* take(int64 n) {
        T* part = base ? base + used : base;
        used += (n + ALIGN - 1) / ALIGN * ALIGN;
        return part;
    }
};

// A memory of which the first ROOM numbers are NEAR: what comes first is put there if it fits.
template <class T> struct Memory {
    Cursor<T> near, far;
    int64 room;

    CORELAB_HD T* take(int64 n) { return near.used + n <= room ? near.take(n) : far.take(n); }
};

// The last rows of a map, between margins of zeros: [image][row][left + wide + right][channel], of
// which all columns are kept or the last WINDOW.
template <class T> struct Rows {
    T* origin;  // column 0 of the first row of the first image
    int32 kept, wide, channels;
    int64 row, image;  // strides

    CORELAB_HD T* at(int32 y, int32 x) const {
        const int32 line = kept == 1 ? 0 : y % kept;  // a division takes long on a GPU
        const int32 column = wide == WINDOW ? x % WINDOW : x;
        return origin + line * row + (int64)column * channels;
    }
};

// y[m][n] = start + sum over k of a[m][k] w[k][n] at the places m = (image, place), where the start
// is bias[n] + extra[m][n], or one of them or, if there is neither, y[m][n] itself.
template <class T> struct Product {
    int32 images, places, k, n;
    const T* a;
    int64 a_image, a_place;
    const T* w;
    T* y;
    int64 y_image, y_place;
    const T* bias;
    const T* extra;
    int64 extra_image, extra_place;
    int32 beside;  // so many columns of another product may be added up meanwhile
    bool unfinished;  // another product goes on with the sums

    CORELAB_HD const T* start(int32 image, int32 place) const {
        return extra ? extra + image * extra_image + place * extra_place : extra;
    }
};

template <class T, class Team> class Sampler {
  public:
    // Lays out MEMORY, of which it takes `size()`, for IMAGES images from the FIRST one on.
    CORELAB_CALL Sampler(Team team, const Task<T>& task, const Memory<T>& given_memory, int32 first,
                         int32 images)
        : team(team), task(task), first(first), images(images), H(task.net.height),
          W(task.net.width), C(task.net.channels), E(task.net.embed), L(task.net.layers),
          F(task.net.features), hidden(task.net.hidden), seen(C * E + 3), half(task.net.first / 2),
          reach(task.net.kernel / 2), width((task.net.outputs + ALIGN - 1) / ALIGN * ALIGN),
          levels(task.net.components ? SHADES : width), plusplus(task.net.kind == PLUSPLUS),
          memory(given_memory) {
        const int32 N = images;
        const int32 side = plusplus ? 1 : half;
        line = memory.take((int64)N * 2 * F);
        other_line = plusplus ? nullptr : memory.take((int64)N * 2 * F);
        gated = memory.take((int64)N * 2 * F);
        units = memory.take((int64)N * C * hidden);
        parameters = memory.take((int64)N * width);
        mixture = memory.take((int64)N * 3 * task.net.components);
        shades = task.net.components ? memory.take((int64)N * SHADES) : parameters;
        maxima = memory.take((int64)N * (levels / CHUNK));
        sums = memory.take((int64)N * (levels / CHUNK));
        least = memory.take(N);
        highest = memory.take(N);
        if (Team::AHEAD) {
            begins = memory.take((int64)L * N * (plusplus ? F : 2 * F));
            begins_second = memory.take(plusplus ? (int64)L * N * 2 * F : 0);
        }
        if (!plusplus) right = rows(1, reach, smaller(W, WINDOW), 0, F, L);
        feature_stride = plusplus ? F : right.image;
        canvas = rows(plusplus ? 3 : half + 1, side, W, side, seen, 1);
        below = memory.take((int64)N * W * 2 * F);
        if (plusplus) {
            right = rows(2, 1, W, 0, 2 * F, L);
            right_second = rows(2, 1, W, 0, 2 * F, L);
            stream = memory.take((int64)N * W * F);
            left = memory.take((int64)N * W * F);
            down = rows(2, 1, W, 1, 2 * F, L + 1);
            down_second = rows(2, 1, W, 1, 2 * F, L);
            given_second = memory.take((int64)L * N * W * 2 * F);
        } else {
            down = rows(reach + 1, reach, W, reach, F, L);
        }
        given = memory.take((int64)L * N * W * (plusplus ? F : 2 * F));
    }

    // In numbers, near and far.
    CORELAB_CALL int64 size() const { return memory.near.used + memory.far.used; }

    CORELAB_CALL void run() const {
        clear(memory.near);
        clear(memory.far);
        team.share();
        for (int32 y = 0; y < H; ++y) {
            Cursor<const T> weights = {task.weights, 0};
            const T* table = weights.take((int64)task.net.levels * E);
            place(y, weights.take((int64)H * W * 3));
            if (plusplus) row_of_plusplus(y, weights);
            else row_of_gated(y, weights);
            const bool known = y < task.given;
            for (int32 x = 0; x < W; ++x) {
                Cursor<const T> w = weights;
                const T* h = nullptr;
                if (plusplus || !known) h = pixel(y, x, w);  // else nothing depends on it
                if (known) {
                    for (int32 c = 0; c < C; ++c) encode(y, x, c, table);
                    team.sync();
                } else {
                    draw(y, x, h, w, table);
                }
            }
        }
    }

    // Asks for every product of a pixel once, in a row that is not given; of its sums there are none.
    CORELAB_CALL void ask(Cursor<const T> weights) const {
        const T* const h = pixel(H - 1, 0, weights);
        draw(H - 1, 0, h, weights, task.weights);
    }

  private:
    // ---- memory -------------------------------------------------------------------------------

    CORELAB_CALL void clear(const Cursor<T>& part) const {
        T* const all = part.base;
        team.each(1, 1, (int32)part.used, [=](int32, int32, int32 i) { all[i] = (T)0; });
    }

    // N maps of which the last KEPT rows are kept, with BEFORE and BEHIND columns of margin.
    CORELAB_CALL Rows<T> rows(int32 kept, int32 before, int32 wide, int32 behind, int32 channels,
                              int32 n) {
        const int64 row = (int64)(before + wide + behind) * channels;
        T* base = memory.take(n * images * kept * row);
        return {base ? base + (int64)before * channels : base, kept, wide, channels, row,
                kept * row};
    }

    CORELAB_CALL Rows<T> of(Rows<T> map, int32 i) const {
        map.origin += (int64)i * images * map.image;
        return map;
    }

    // ---- parts of layers ----------------------------------------------------------------------

    // Adds, from the START of P on, what a kernel of COLUMNS columns sees of COUNT rows of MAP from
    // row Y on, its first column SHIFT columns from a place. Rows above the image are not there.
    CORELAB_CALL void convolve(Product<T> p, const Rows<T>& map, int32 y, int32 count, int32 x,
                               int32 shift, int32 columns, const T* w) const {
        p.images = images;
        p.k = columns * map.channels;
        p.a_image = map.image;
        p.a_place = map.channels;
        bool begun = false;
        for (int32 r = y; r < y + count; ++r, w += (int64)p.k * p.n) {
            if (r < 0) continue;
            p.a = map.at(r, x) + shift * map.channels;
            p.w = w;
            p.unfinished = r + 1 < y + count;
            team.product(p);
            p.bias = p.extra = nullptr;
            begun = true;
        }
        if (!begun) {
            p.k = 0;
            team.product(p);
        }
    }

    // The product with N outputs at all places of a row, into Y, from BIAS and EXTRA on.
    CORELAB_CALL Product<T> over_row(int32 n, T* y, const T* bias, const T* extra) const {
        Product<T> p = {};
        p.images = images, p.places = W, p.n = n;
        p.y = y, p.y_image = (int64)W * n, p.y_place = n;
        p.bias = bias, p.extra = extra;
        p.extra_image = task.context_image, p.extra_place = task.context_place;
        return p;
    }

    // The product with K inputs A and N outputs Y at one place of each image.
    CORELAB_CALL Product<T> at_pixel(int32 k, const T* a, int64 a_image, int32 n, T* y,
                                     int64 y_image, const T* w, const T* bias) const {
        Product<T> p = {};
        p.images = images, p.places = 1, p.k = k, p.n = n;
        p.a = a, p.a_image = a_image, p.w = w;
        p.y = y, p.y_image = y_image;
        p.bias = bias;
        return p;
    }

    // What the layers are told of row Y beforehand, from channel CHANNEL on.
    CORELAB_CALL const T* context(int32 y, int32 channel) const {
        return task.context + first * task.context_image + y * task.context_row + channel;
    }

    // The network at column X of row Y, but for the head: the features that it sees.
    CORELAB_CALL T* pixel(int32 y, int32 x, Cursor<const T>& weights) const {
        if (!plusplus && x % right.wide == 0) move(right, x);
        if (Team::AHEAD) {
            copy(given, x, plusplus ? F : 2 * F, begins);
            if (plusplus) copy(given_second, x, 2 * F, begins_second);
        }
        team.sync();
        return plusplus ? pixel_of_plusplus(y, x, weights) : pixel_of_gated(y, x, weights);
    }

    // The place at column X of the ROW of all layers, with N channels.
    CORELAB_CALL void copy(const T* row, int32 x, int32 n, T* out) const {
        const int32 wide = W, all = images;
        team.each(L, all, n, [=](int32 layer, int32 i, int32 j) {
            const int64 map = (int64)layer * all + i;
            out[map * n + j] = row[(map * wide + x) * n + j];
        });
    }

    // Puts the last columns of the MAPs before column X, which is where the first one was.
    CORELAB_CALL void move(const Rows<T>& map, int32 x) const {
        const int32 n = map.channels, before = reach, wide = map.wide, all = images;
        const int64 image = map.image;
        T* const origin = map.origin;
        team.each(L, all, n, [=](int32 layer, int32 i, int32 j) {
            T* const place = origin + ((int64)layer * all + i) * image + j;
            for (int32 k = -before; k < 0; ++k) place[k * n] = x ? place[(wide + k) * n] : (T)0;
        });
    }

    // The product of layer I at column X begins with what its ROW has there, with N channels, of
    // which teams with a memory that is nearer have a COPY.
    CORELAB_CALL void from(Product<T>& p, const T* row, const T* copy, int32 i, int32 x,
                           int32 n) const {
        const int64 map = (int64)i * images * n;
        p.extra = Team::AHEAD ? copy + map : row + map * W + x * n;
        p.extra_image = Team::AHEAD ? n : W * n;
    }

    CORELAB_CALL void concat_elu(const T* in, int64 in_image, int32 places, T* out,
                                 int64 out_image) const {
        const int32 c = F;
        team.each(images, places, c, [=](int32 i, int32 x, int32 j) {
            const T v = in[i * in_image + x * c + j];
            T* y = out + i * out_image + x * 2 * c + j;
            y[0] = elu(v);
            y[c] = elu(-v);
        });
    }

    // X += a sigmoid(b), for the halves of IN
    CORELAB_CALL void add_glu(const T* in, T* x, int32 places) const {
        const int32 c = F;
        team.each(images, places, c, [=](int32 i, int32 m, int32 j) {
            const T* p = in + (int64)(i * places + m) * 2 * c + j;
            T* y = x + (int64)(i * places + m) * c + j;
            *y = fma(p[0], sigmoid(p[c]), *y);
        });
    }

    // ---- the gated network --------------------------------------------------------------------

    // The vertical stack of row Y, and what it tells the horizontal one.
    CORELAB_PHASE void row_of_gated(int32 y, Cursor<const T>& weights) const {
        for (int32 i = 0; i < L; ++i) {
            const Rows<T> in = i ? of(down, i - 1) : canvas;
            const int32 tall = i ? reach + 1 : half, side = i ? reach : half;
            const int32 top = i ? y - reach : y - half;  // a strict kernel ends above the row
            const int32 wide = 2 * side + 1;
            const T* const vertical = weights.take((int64)tall * wide * in.channels * 2 * F);
            const T* const vertical_bias = weights.take(2 * F);
            const T* const across = weights.take((int64)4 * F * F);
            const T* const bias = weights.take(2 * F);  // of across and of the horizontal kernel
            convolve(over_row(2 * F, below, vertical_bias, context(y, 4 * F * i)), in, top, tall, 0,
                     -side, wide, vertical);
            team.share();
            if (y >= task.given) {
                T* out = given + (int64)i * images * W * 2 * F;
                Product<T> p = over_row(2 * F, out, bias, context(y, 4 * F * i + 2 * F));
                p.k = 2 * F, p.a = below, p.a_image = (int64)W * 2 * F, p.a_place = 2 * F;
                p.w = across;
                team.product(p);
            }
            if (i + 1 < L) {
                const Rows<T> map = of(down, i);
                gates(below, W, map.at(y, 0), map.image);
            }
            team.share();
        }
    }

    CORELAB_CALL void gates(const T* in, int32 places, T* out, int64 out_image) const {
        const int32 c = F;
        team.each(images, places, c, [=](int32 i, int32 x, int32 j) {
            const T* p = in + (int64)(i * places + x) * 2 * c + j;
            out[i * out_image + x * c + j] = gate(p[0], p[c]);
        });
    }

    // The horizontal stack at column X of row Y: its last layer. What a layer makes of the columns
    // before is added up while the layer before it works, by members that have nothing else to do.
    CORELAB_PHASE T* pixel_of_gated(int32 y, int32 x, Cursor<const T>& weights) const {
        const T* horizontal = weights.take((int64)half * seen * 2 * F);
        before(0, canvas, y, x, half, horizontal);
        team.share();
        for (int32 i = 0; i < L; ++i) {
            const Rows<T> out = of(right, i);
            T* const sums = i % 2 ? other_line : line;
            if (i) {
                const Rows<T> in = of(right, i - 1);
                horizontal += (int64)reach * F * 2 * F;
                const T* const own = in.at(y, x);
                team.product(
                    at_pixel(F, own, in.image, 2 * F, sums, 2 * F, horizontal, nullptr));
                team.share();
            }
            gates(sums, 1, gated, F);
            team.sync();
            const T* const pointwise = weights.take((int64)F * F);
            const T* const bias = weights.take(F);
            Product<T> p = at_pixel(F, gated, F, F, out.at(y, x), out.image, pointwise, bias);
            if (i) p.extra = of(right, i - 1).at(y, x), p.extra_image = out.image;
            team.product(p);
            if (i + 1 < L) {
                horizontal = weights.take((int64)(reach + 1) * F * 2 * F);
                before(i + 1, out, y, x, reach, horizontal);
            }
            team.share();
        }
        return of(right, L - 1).at(y, x);
    }

    // What layer I makes of so many COLUMNS of IN before column X.
    CORELAB_CALL void before(int32 i, const Rows<T>& in, int32 y, int32 x, int32 columns,
                             const T* w) const {
        T* const sums = i % 2 ? other_line : line;
        Product<T> p = at_pixel(0, nullptr, 0, 2 * F, sums, 2 * F, nullptr, nullptr);
        from(p, given, begins, i, x, 2 * F);
        p.beside = F;
        convolve(p, in, y, 1, x, -columns, columns, w);
    }

    // ---- the network of PixelCNN++ --------------------------------------------------------------

    // The stream u of row Y, and what ul is told by it and by its own row above.
    CORELAB_PHASE void row_of_plusplus(int32 y, Cursor<const T>& weights) const {
        const int64 square = (int64)F * F;
        const T* w = weights.take((int64)2 * 3 * seen * F);
        const T* bias = weights.take(F);
        convolve(over_row(F, stream, bias, nullptr), canvas, y - 2, 2, 0, -1, 3, w);
        w = weights.take((int64)3 * seen * F);
        bias = weights.take(F);  // of this kernel and of the next
        convolve(over_row(F, left, bias, nullptr), canvas, y - 1, 1, 0, -1, 3, w);
        w = weights.take((int64)seen * F);
        convolve(over_row(F, left, nullptr, nullptr), canvas, y - 1, 1, 0, -1, 1, w);
        team.share();
        concat_elu(stream, (int64)W * F, W, down.at(y, 0), down.image);
        team.sync();
        for (int32 i = 0; i < L; ++i) {
            const Rows<T> second = of(down_second, i);
            w = weights.take(2 * 3 * 2 * square);
            bias = weights.take(F);
            convolve(over_row(F, below, bias, nullptr), of(down, i), y - 1, 2, 0, -1, 3, w);
            team.share();
            concat_elu(below, (int64)W * F, W, second.at(y, 0), second.image);
            team.share();
            w = weights.take(2 * 3 * 4 * square);
            bias = weights.take(2 * F);
            convolve(over_row(2 * F, below, bias, context(y, 4 * F * i)), second, y - 1, 2, 0, -1,
                     3, w);
            team.share();
            add_glu(below, stream, W);
            team.sync();
            const Rows<T> next = of(down, i + 1);  // what the next layer sees, and ul is told
            concat_elu(stream, (int64)W * F, W, next.at(y, 0), next.image);
            team.sync();
            const int64 layer = (int64)i * images * W * F;
            w = weights.take(2 * square);
            bias = weights.take(F);  // of this kernel and of the next
            Product<T> p = over_row(F, given + layer, bias, nullptr);
            p.k = 2 * F, p.a = next.at(y, 0), p.a_image = next.image, p.a_place = 2 * F, p.w = w;
            team.product(p);
            w = weights.take(2 * 2 * square);
            convolve(over_row(F, given + layer, nullptr, nullptr), of(right, i), y - 1, 1, 0, -1, 2,
                     w);
            w = weights.take(2 * 4 * square);
            bias = weights.take(2 * F);
            convolve(over_row(2 * F, given_second + 2 * layer, bias, context(y, 4 * F * i + 2 * F)),
                     of(right_second, i), y - 1, 1, 0, -1, 2, w);
            team.share();
        }
    }

    // The stream ul at column X of row Y.
    CORELAB_PHASE T* pixel_of_plusplus(int32 y, int32 x, Cursor<const T>& weights) const {
        const int64 square = (int64)F * F;
        T* const ul = gated;
        Product<T> p = at_pixel(0, nullptr, 0, F, ul, F, nullptr, nullptr);
        p.extra = left + (int64)x * F, p.extra_image = (int64)W * F;
        convolve(p, canvas, y, 1, x, -1, 1, weights.take((int64)seen * F));
        team.share();
        for (int32 i = 0; i < L; ++i) {
            const Rows<T> in = of(right, i), second = of(right_second, i);
            concat_elu(ul, F, 1, in.at(y, x), in.image);
            team.sync();
            p = at_pixel(0, nullptr, 0, F, line, F, nullptr, nullptr);
            from(p, given, begins, i, x, F);
            convolve(p, in, y, 1, x, -1, 2, weights.take(2 * 2 * square));
            team.share();
            concat_elu(line, F, 1, second.at(y, x), second.image);
            team.share();
            p = at_pixel(0, nullptr, 0, 2 * F, line, 2 * F, nullptr, nullptr);
            from(p, given_second, begins_second, i, x, 2 * F);
            convolve(p, second, y, 1, x, -1, 2, weights.take(2 * 4 * square));
            team.share();
            add_glu(line, ul, 1);
            team.share();
        }
        return ul;
    }

    // ---- a pixel ------------------------------------------------------------------------------

    // Where the pixels of row Y are: BACKGROUND [H][W][3], behind what encodes them.
    CORELAB_CALL void place(int32 y, const T* background) const {
        T* const out = canvas.at(y, 0) + C * E;
        const int64 image = canvas.image;
        const int32 channels = seen;
        const T* const in = background + (int64)y * W * 3;
        team.each(images, W, 3, [=](int32 i, int32 x, int32 c) {
            out[i * image + x * channels + c] = in[x * 3 + c];
        });
        team.sync();
    }

    CORELAB_CALL int64 index(int32 image, int32 c, int32 y, int32 x) const {
        return (((int64)(first + image) * C + c) * H + y) * W + x;
    }

    // Put sub-pixel C, as it is known, on the canvas.
    CORELAB_CALL void encode(int32 y, int32 x, int32 c, const T* table) const {
        T* const out = canvas.at(y, x) + c * E;
        const int64 image = canvas.image;
        const int64 begin = index(0, c, y, x), step = (int64)C * H * W;
        const int64* const symbols = task.symbols;
        const int32 embed = E;
        team.each(images, 1, E, [=](int32 i, int32, int32 e) {
            out[i * image + e] = table[symbols[begin + i * step] * embed + e];
        });
    }

    // The sub-pixels at (Y, X) from its features H, one after the other.
    CORELAB_PHASE void draw(int32 y, int32 x, const T* h, Cursor<const T> weights,
                            const T* table) const {
        const int64 stride = feature_stride;
        const int32 features = F, columns = C * hidden, n = task.net.outputs;
        T* const active = line;
        team.each(images, 1, F, [=](int32 i, int32, int32 j) {
            active[i * features + j] = relu(h[i * stride + j]);
        });
        team.sync();
        const T* w = weights.take((int64)F * columns);
        const T* bias = weights.take(columns);
        team.product(at_pixel(F, active, F, columns, units, columns, w, bias));
        team.share();
        Cursor<const T> out = weights;
        for (int32 c = 1; c < C; ++c) out.take((int64)c * E * hidden);
        for (int32 c = 0; c < C; ++c) {
            T* const own = units + c * hidden;
            if (c) {
                w = weights.take((int64)c * E * hidden);
                team.product(at_pixel(c * E, canvas.at(y, x), canvas.image, hidden, own, columns, w,
                                      nullptr));
                team.share();
            }
            team.each(images, 1, hidden, [=](int32 i, int32, int32 j) {
                own[i * columns + j] = relu(own[i * columns + j]);
            });
            team.sync();
            w = out.take((int64)hidden * width);
            bias = out.take(width);
            team.product(at_pixel(hidden, own, columns, width, parameters, width, w, bias));
            team.share();
            if (task.record) {
                T* const kept = task.record + ((((int64)first * H + y) * W + x) * C + c) * n;
                const int64 step = (int64)H * W * C * n;
                const T* const from = parameters;
                const int32 padded = width;
                team.each(images, 1, n, [=](int32 i, int32, int32 j) {
                    kept[i * step + j] = from[i * padded + j];
                });
                team.sync();
            }
            if (task.net.components) draw_from_mixture(y, x, c);
            else draw_from_levels(y, x, c);
            encode(y, x, c, table);
            team.sync();
        }
    }

    CORELAB_CALL void choose(int32 image, int32 y, int32 x, int32 c, int32 symbol,
                             bool valid) const {
        int64* const failed = task.failed + first + image;
        if (!valid && !*failed) *failed = 1 + ((int64)y * W + x) * C + c;
        task.symbols[index(image, c, y, x)] = valid ? symbol : 0;
    }

    // The level at which the distribution function of the log-probabilities passes the uniform.
    CORELAB_PHASE void draw_from_levels(int32 y, int32 x, int32 c) const {
        T *const p = shades, *const maxima = this->maxima, *const sums = this->sums;
        T *const least = this->least, *const highest = this->highest;
        const int32 n = levels, chunks = levels / CHUNK, top_k = task.top_k;
        const T temperature = task.temperature;
        const bool cut = top_k > 0 && top_k < (task.net.components ? SHADES : task.net.outputs);
        if (cut) {
            team.alone(images, [=](int32 i) { least[i] = largest(p + i * n, n, top_k); });
            team.sync();
        }
        team.each(images, 1, chunks, [=](int32 i, int32, int32 j) {
            T *const chunk = p + i * n + j * CHUNK, most[CHUNK];
            for (int32 l = 0; l < CHUNK; ++l) {
                const T v = cut && chunk[l] < least[i] ? -infinity(chunk[l]) : chunk[l];
                most[l] = chunk[l] = temperature == (T)1 ? v : v / temperature;
            }
            for (int32 w = CHUNK / 2; w; w /= 2) {
                for (int32 l = 0; l < w; ++l) most[l] = larger(most[l], most[l + w]);
            }
            maxima[i * chunks + j] = most[0];
        });
        team.sync();
        team.alone(images, [=](int32 i) {
            T most = maxima[i * chunks];
            for (int32 l = 1; l < chunks; ++l) most = larger(most, maxima[i * chunks + l]);
            highest[i] = most;
        });
        team.sync();
        team.each(images, 1, n, [=](int32 i, int32, int32 l) {
            p[i * n + l] = exp(p[i * n + l] - highest[i]);
        });
        team.sync();
        team.each(images, 1, chunks, [=](int32 i, int32, int32 j) {
            const T* const chunk = p + i * n + j * CHUNK;
            T part[CHUNK];
            for (int32 l = 0; l < CHUNK; ++l) part[l] = chunk[l];
            for (int32 w = CHUNK / 2; w; w /= 2) {
                for (int32 l = 0; l < w; ++l) part[l] = part[l] + part[l + w];
            }
            sums[i * chunks + j] = part[0];
        });
        team.sync();
        team.alone(images, [&](int32 i) {
            const T *const mass = p + i * n, *const part = sums + i * chunks;
            T total = (T)0;
            for (int32 j = 0; j < chunks; ++j) total = total + part[j];
            const T target = task.uniforms[index(i, c, y, x)] * total;
            T sum = (T)0;
            int32 level = CHUNK * passing(part, chunks, target, sum);
            level += passing(mass + level, CHUNK, target, sum);
            while (level > 0 && mass[level] == (T)0) --level;
            choose(i, y, x, c, level, total > (T)0 && total < infinity(total));
        });
        team.sync();
    }

    // The number from PART on, of N, with which the SUM passes TARGET, or the last one; the SUM is
    // then that of those before it. All are looked at, so that none is waited for.
    CORELAB_HD static int32 passing(const T* part, int32 n, T target, T& sum) {
        T next = sum;
        int32 found = 0;
        for (int32 i = 0; i + 1 < n; ++i) {
            next = next + part[i];
            if (found == i && next <= target) sum = next, found = i + 1;
        }
        return found;
    }

    // The K-th largest of the N numbers V: the largest number that at least K of them reach, bit by
    // bit from the top, among the keys whose order as whole numbers is that of the numbers.
    CORELAB_CALL static T largest(const T* v, int32 n, int32 k) {
        using Key = decltype(bits(T()));
        constexpr int32 top = 8 * sizeof(Key) - 1;
        const Key sign = (Key)1 << top;
        Key found = 0;
        for (int32 bit = top; bit >= 0; --bit) {
            const Key tried = found | (Key)1 << bit;
            int32 count = 0;
            for (int32 i = 0; i < n; ++i) {
                const Key b = bits(v[i]);
                count += (b & sign ? ~b : b | sign) >= tried;
            }
            if (count >= k) found = tried;
        }
        return number(found & sign ? found ^ sign : ~found);
    }

    // Salimans et al. 2017, eq. 2 and 3, as corelab_generative.mixture.Mixture has them.
    CORELAB_PHASE void draw_from_mixture(int32 y, int32 x, int32 c) const {
        const int32 K = task.net.components, padded = width;
        T *const mixture = this->mixture, *const out = shades;
        const T* const in = parameters;
        team.alone(images, [&](int32 i) {
            const T* const p = in + i * padded;
            T *const share = mixture + i * 3 * K, *const mu = share + K, *const sharpness = mu + K;
            T most = p[0], total = (T)0;
            for (int32 k = 1; k < K; ++k) most = larger(most, p[k]);
            for (int32 k = 0; k < K; ++k) total = total + (share[k] = exp(p[k] - most));
            for (int32 k = 0; k < K; ++k) {
                share[k] = share[k] / total;
                mu[k] = p[K + k];
                const T log_s = p[2 * K + k];
                sharpness[k] = exp(-(log_s < (T)-7 ? (T)-7 : log_s > (T)7 ? (T)7 : log_s));
                for (int32 j = 0; j < c; ++j) {  // the location moves with the channels before
                    const T shift = (T)task.symbols[index(i, j, y, x)] / (T)127.5 - (T)1;
                    mu[k] = fma(tanh(p[(3 + j) * K + k]), shift, mu[k]);
                }
            }
        });
        team.sync();
        if (task.temperature == (T)1 && (task.top_k <= 0 || task.top_k >= SHADES)) {
            team.alone(images, [&](int32 i) {
                const T* const m = mixture + i * 3 * K;
                const T target = task.uniforms[index(i, c, y, x)];
                int32 low = 0, high = SHADES - 1;  // the level is between them
                while (low < high) {
                    const int32 middle = (low + high) / 2;
                    if (below_edge(m, K, middle) <= target) low = middle + 1;
                    else high = middle;
                }
                const T check = below_edge(m, K, 0);
                choose(i, y, x, c, low, check == check);
            });
            team.sync();
            return;
        }
        team.each(images, 1, SHADES, [=](int32 i, int32, int32 j) {
            const T* const m = mixture + i * 3 * K;
            const T until = j + 1 < SHADES ? below_edge(m, K, j) : (T)1;
            const T mass = until - (j ? below_edge(m, K, j - 1) : (T)0);
            out[i * SHADES + j] = log(mass < (T)0 ? (T)0 : mass);
        });
        team.sync();
        draw_from_levels(y, x, c);
    }

    // The distribution function of mixture M at the edge between levels J and J + 1.
    CORELAB_CALL static T below_edge(const T* m, int32 K, int32 j) {
        const T edge = ((T)j + (T)0.5) / (T)127.5 - (T)1;
        T sum = (T)0;
        for (int32 k = 0; k < K; ++k) {
            sum = fma(m[k], sigmoid((edge - m[K + k]) * m[2 * K + k]), sum);
        }
        return sum;
    }

    Team team;
    const Task<T> task;
    const int32 first, images;
    const int32 H, W, C, E, L, F, hidden;
    const int32 seen;  // channels of the canvas
    const int32 half, reach;  // of the first kernel and of the others, without the middle
    const int32 width;  // of the parameters of a sub-pixel in memory
    const int32 levels;
    const bool plusplus;
    Memory<T> memory;
    int64 feature_stride;

    Rows<T> canvas;  // the encoded image and the background
    Rows<T> down, right;  // what the convolutions of the layers see
    Rows<T> down_second = {}, right_second = {};  // and the second ones of a block
    T *stream = nullptr, *left = nullptr;  // of a row: u, and where ul begins
    T* below;  // of a row: what a layer makes of the rows above
    T *given, *given_second = nullptr;  // of a row and all layers: where products of pixels begin
    T *begins = nullptr, *begins_second = nullptr;  // copies of them at a pixel
    T *line, *other_line, *gated;  // of a pixel
    T *units, *parameters;  // of its head
    T *mixture, *shades, *maxima, *sums, *least, *highest;  // of the distribution of a sub-pixel
};

}  // namespace corelab
