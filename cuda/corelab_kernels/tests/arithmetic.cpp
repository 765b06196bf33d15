// The functions of arithmetic.h over arrays, for test_arithmetic.py.
#include "../arithmetic.h"

namespace {

template <class T, class F> void map(const T* x, T* y, long n, F f) {
    for (long i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <class T> int apply(int function, const T* x, T* y, long n) {
    switch (function) {
        case 0: map(x, y, n, [](T a) { return corelab::exp(a); }); return 0;
        case 1: map(x, y, n, [](T a) { return corelab::expm1(a); }); return 0;
        case 2: map(x, y, n, [](T a) { return corelab::log(a); }); return 0;
        case 3: map(x, y, n, [](T a) { return corelab::tanh(a); }); return 0;
        case 4: map(x, y, n, [](T a) { return corelab::sigmoid(a); }); return 0;
        case 5: map(x, y, n, [](T a) { return corelab::gate(a, (T)1 - a - a); }); return 0;
        case 6: map(x, y, n, [](T a) { return corelab::elu(a); }); return 0;
    }
    return 1;
}

}  // namespace

extern "C" {

int apply32(int function, const float* x, float* y, long n) { return apply(function, x, y, n); }
int apply64(int function, const double* x, double* y, long n) { return apply(function, x, y, n); }

// The function of the float32 numbers whose bits are FIRST, FIRST + STRIDE, ...
int apply_bits(int function, unsigned first, unsigned stride, float* y, long n) {
    float x[1024];
    for (long begin = 0; begin < n; begin += 1024) {
        const long count = n - begin < 1024 ? n - begin : 1024;
        for (long i = 0; i < count; ++i) {
            x[i] = corelab::number(first + (unsigned)(begin + i) * stride);
        }
        if (apply(function, x, y + begin, count)) return 1;
    }
    return 0;
}

void philox(const corelab::Words* counters, unsigned long long key, corelab::Words* y, long n) {
    for (long i = 0; i < n; ++i) y[i] = corelab::philox(counters[i], key);
}

void uniform(const unsigned* words, float* y, long n) {
    for (long i = 0; i < n; ++i) y[i] = corelab::uniform(words[i]);
}
}
