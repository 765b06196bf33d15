// The passes of perceptrons that are equal but for their weights, forwards and backwards, on one
// core of a CPU: all layers of all nets in one call.
//
// The layout is that of corelab_nets.perceptron: layer after layer, the weights [nets, in, out] and
// then the biases [nets, out]. What the layers give is [nets, rows, out], layer after layer. Every
// sum has one order, so nothing depends on the width of a vector or on how rows are split: forwards
// the bias and then the inputs, backwards the outputs, and gradients over the rows.

#include "vector.h"

#include <algorithm>
#include <vector>

namespace corelab {
namespace {

// ---- matrix products ----------------------------------------------------------------------------

// The sums of a tile are in registers: 24 of 32, or 12 of 16.
constexpr bool MANY = Vector<float>::WIDTH != 8;
constexpr int32 TALL = 6, BROAD = MANY ? 4 : 2;  // rows, and vectors in each
constexpr int32 TALLER = MANY ? 16 : 12;         // rows of one vector
constexpr int32 DEPTH = 64;  // terms that are added at once: their weights stay in the first cache

// y[m][n] = start + sum over k of a[m][k] w[k][n], where the start is bias[n] or, without one,
// y[m][n] itself.
template <class T> struct Product {
    int32 m, k, n;
    const T* a;
    int64 a_row, a_term;
    const T* w;
    T* y;
    const T* bias;
};

// Terms FROM to TO in M rows from ROW on and N vectors of columns from COLUMN on, or in what there
// is of one vector. The loops over rows are unrolled by name: the sums are then in registers from
// beginning to end.
template <int32 M, int32 N, class T>
void tile(const Product<T>& p, int32 row, int32 column, int32 from, int32 to) {
    using V = Vector<T>;
    const int32 count = std::min(p.n - column, V::WIDTH);
    const auto load = [=](const T* at, int32 j) {
        return N == 1 ? V::load(at, count) : V::load(at + j * V::WIDTH);
    };
    T* y = p.y + (int64)row * p.n + column;
    const bool begun = from || !p.bias;
    const T* a[M];
    V sum[M][N];
#pragma GCC unroll 16
    for (int32 m = 0; m < M; ++m) {
        a[m] = p.a + (row + m) * p.a_row + from * p.a_term;
        const T* start = begun ? y + (int64)m * p.n : p.bias + column;
        for (int32 j = 0; j < N; ++j) sum[m][j] = load(start, j);
    }
    const T* w = p.w + (int64)from * p.n + column;
    int64 term = 0;
    for (int32 k = from; k < to; ++k, w += p.n, term += p.a_term) {
        V b[N];
        for (int32 j = 0; j < N; ++j) b[j] = load(w, j);
#pragma GCC unroll 16
        for (int32 m = 0; m < M; ++m) {
            const V x = V::all(a[m][term]);
            for (int32 j = 0; j < N; ++j) sum[m][j].add_product(x, b[j]);
        }
    }
#pragma GCC unroll 16
    for (int32 m = 0; m < M; ++m) {
        for (int32 j = 0; j < N; ++j) {
            T* at = y + (int64)m * p.n + j * V::WIDTH;
            N == 1 ? sum[m][j].store(at, count) : sum[m][j].store(at);
        }
    }
}

template <int32 M, int32 N, class T> void strip(const Product<T>& p, int32 column) {
    for (int32 from = 0; from < p.k; from += DEPTH) {
        const int32 to = std::min(from + DEPTH, p.k);
        int32 m = 0;
        for (; m + M <= p.m; m += M) tile<M, N>(p, m, column, from, to);
        for (; m + 2 <= p.m; m += 2) tile<2, N>(p, m, column, from, to);
        if (m < p.m) tile<1, N>(p, m, column, from, to);
    }
}

template <class T> void multiply(const Product<T>& p) {
    constexpr int32 WIDTH = Vector<T>::WIDTH;
    int32 n = 0;
    for (; n + BROAD * WIDTH <= p.n; n += BROAD * WIDTH) strip<TALL, BROAD>(p, n);
    for (; n < p.n; n += WIDTH) strip<TALLER, 1>(p, n);
}

// W [k, n] as [n, k] at Y; returns where that ends.
template <class T> T* transpose(const T* w, int32 k, int32 n, T* y) {
    for (int32 j = 0; j < n; ++j) {
        for (int32 i = 0; i < k; ++i) *y++ = w[(int64)i * n + j];
    }
    return y;
}

// ---- between two layers -------------------------------------------------------------------------

template <class T> void squash(T* h, int32 size, bool relus) {
    if (relus) {
        for (int32 i = 0; i < size; ++i) h[i] = relu(h[i]);
    } else {
        for (int32 i = 0; i < size; ++i) h[i] = tanh(h[i]);
    }
}

// DELTA, the gradient of h = squash(z), becomes that of z.
template <class T> void unsquash(T* delta, const T* h, int32 size, bool relus) {
    if (relus) {
        for (int32 i = 0; i < size; ++i) delta[i] = h[i] > (T)0 ? delta[i] : (T)0;
    } else {
        for (int32 i = 0; i < size; ++i) delta[i] *= fma(-h[i], h[i], (T)1);
    }
}

// ---- all layers ---------------------------------------------------------------------------------

constexpr int32 ROWS = 48;  // go through all layers together, in the first cache

template <class T> struct Task {
    int32 nets, depth;    // how many, and how many layers each has
    const int32* widths;  // of the input and what each layer gives
    int32 relus, rows;    // whether they are not tanh, and how many rows each net is given
    const T* flat;        // weights and biases
    int32 first, last;    // the nets that are asked, forwards
    const T* x;           // [rows, in] for each net,
    int64 x_net;          // so many numbers behind that of the one before: 0 if it is the same
    T* kept;              // what the layers give
    const T* dy;          // backwards, the gradient of what the nets give [nets, rows, out]
    T *gradient, *workspace;  // and that of what is in `flat`, laid out like it
};

struct Layer {
    int32 in, out;
    int64 weights, biases;  // where those of all nets begin
    int64 given;            // and what the layer gives
};

template <class T> class Passes {
  public:
    explicit Passes(const Task<T>& task)
        : task(task), rows(task.rows),
          widest(*std::max_element(task.widths, task.widths + task.depth + 1)) {
        int64 flat = 0, given = 0;
        for (int32 l = 0; l < task.depth; ++l) {
            const int32 in = task.widths[l], out = task.widths[l + 1];
            const int64 biases = flat + (int64)task.nets * in * out;
            layers.push_back({in, out, flat, biases, given});
            flat = biases + (int64)task.nets * out;
            given += (int64)task.nets * rows * out;
        }
    }

    void forward(int32 net) const {
        for (int32 row = 0; row < rows; row += ROWS) {
            const int32 m = std::min(ROWS, rows - row);
            const T* h = given(net, row);
            for (const Layer& layer : layers) {
                const int32 k = layer.in, n = layer.out;
                const T *w = W(task.flat, layer, net), *bias = b(task.flat, layer, net);
                T* y = at(layer, net, row);
                multiply<T>({m, k, n, h, k, 1, w, y, bias});
                if (&layer != &layers.back()) squash(y, m * n, task.relus);
                h = y;
            }
        }
    }

    void backward(int32 net) const {
        T* delta = task.workspace;
        T* next = delta + (int64)ROWS * widest;
        T* zeros = next + (int64)ROWS * widest;
        T* end = std::fill_n(zeros, widest, (T)0);  // of the transposed weights
        for (const Layer& layer : layers) {
            const int32 k = layer.in, n = layer.out;
            std::fill_n(W(task.gradient, layer, net), (int64)k * n, (T)0);
            std::fill_n(b(task.gradient, layer, net), n, (T)0);
            if (&layer != &layers.front()) end = transpose(W(task.flat, layer, net), k, n, end);
        }
        const T one = 1;  // a bias is the weight of an input that is 1
        for (int32 row = 0; row < rows; row += ROWS) {
            const int32 m = std::min(ROWS, rows - row);
            const T* d = task.dy + ((int64)net * rows + row) * layers.back().out;
            const T* w = end;
            for (size_t l = layers.size(); l--;) {
                const Layer& layer = layers[l];
                const int32 k = layer.in, n = layer.out;
                const T* h = l ? at(layers[l - 1], net, row) : given(net, row);
                T *dW = W(task.gradient, layer, net), *db = b(task.gradient, layer, net);
                if (narrow(layer)) {
                    multiply<T>({n, m, k, d, 1, n, h, dW, nullptr});
                } else {
                    multiply<T>({k, m, n, h, 1, k, d, dW, nullptr});
                }
                multiply<T>({1, m, n, &one, 0, 0, d, db, nullptr});
                if (l) {
                    w -= (int64)k * n;
                    multiply<T>({m, n, k, d, n, 1, w, delta, zeros});
                    unsquash(delta, h, m * k, task.relus);
                    d = delta;
                    std::swap(delta, next);
                }
            }
        }
        for (const Layer& layer : layers) {
            if (!narrow(layer)) continue;
            T* dW = W(task.gradient, layer, net);
            std::copy_n(dW, (int64)layer.in * layer.out, delta);
            transpose(delta, layer.out, layer.in, dW);
        }
    }

    // How many numbers of memory `backward` needs.
    int64 workspace() const {
        int64 size = (int64)(2 * ROWS + 1) * widest;
        for (const Layer& layer : layers) size += (int64)layer.in * layer.out;
        return size;
    }

  private:
    // Whether the gradient of the weights is gathered as [out, in], in longer rows.
    static bool narrow(const Layer& layer) { return layer.out < Vector<T>::WIDTH; }

    template <class P> static P* W(P* flat, const Layer& layer, int32 net) {
        return flat + layer.weights + (int64)net * layer.in * layer.out;
    }
    template <class P> static P* b(P* flat, const Layer& layer, int32 net) {
        return flat + layer.biases + (int64)net * layer.out;
    }
    const T* given(int32 net, int32 row) const {
        return task.x + net * task.x_net + (int64)row * layers.front().in;
    }
    T* at(const Layer& layer, int32 net, int32 row) const {
        return task.kept + layer.given + ((int64)net * rows + row) * layer.out;
    }

    const Task<T>& task;
    const int32 rows, widest;
    std::vector<Layer> layers;
};

template <class T> void forward(const Task<T>& task) {
    const Passes<T> passes(task);
    for (int32 net = task.first; net < task.last; ++net) passes.forward(net);
}

template <class T> void backward(const Task<T>& task) {
    const Passes<T> passes(task);
    for (int32 net = 0; net < task.nets; ++net) passes.backward(net);
}

}  // namespace
}  // namespace corelab

extern "C" {

void perceptron_forward32(const corelab::Task<float>* task) { corelab::forward(*task); }
void perceptron_forward64(const corelab::Task<double>* task) { corelab::forward(*task); }
void perceptron_backward32(const corelab::Task<float>* task) { corelab::backward(*task); }
void perceptron_backward64(const corelab::Task<double>* task) { corelab::backward(*task); }

long long perceptron_workspace(const corelab::Task<float>* task) {
    return corelab::Passes<float>(*task).workspace();
}
}
