// The functions of arithmetic.h over arrays, for test_arithmetic.py.
#include "../arithmetic.h"

#include <cmath>

namespace {

enum Function { EXP, EXPM1, LOG, TANH, SIGMOID, GATE, ELU };

template <class T, class F> void map(const T* x, T* y, long n, F f) {
    for (long i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <class T> int apply(int function, const T* x, T* y, long n) {
    switch (function) {
        case EXP: map(x, y, n, [](T a) { return corelab::exp(a); }); return 0;
        case EXPM1: map(x, y, n, [](T a) { return corelab::expm1(a); }); return 0;
        case LOG: map(x, y, n, [](T a) { return corelab::log(a); }); return 0;
        case TANH: map(x, y, n, [](T a) { return corelab::tanh(a); }); return 0;
        case SIGMOID: map(x, y, n, [](T a) { return corelab::sigmoid(a); }); return 0;
        case GATE: map(x, y, n, [](T a) { return corelab::gate(a, (T)1 - a - a); }); return 0;
        case ELU: map(x, y, n, [](T a) { return corelab::elu(a); }); return 0;
    }
    return 1;
}

// The same by the system's own library, whose errors are a 2^-29th of a unit of float32's last place.
double exact(int function, double a) {
    switch (function) {
        case EXP: return std::exp(a);
        case EXPM1: return std::expm1(a);
        case LOG: return std::log(a);
        case TANH: return std::tanh(a);
        case SIGMOID: return 1 / (1 + std::exp(-a));
        case GATE: return std::tanh(a) / (1 + std::exp(-(double)(float)(1 - a - a)));
        default: return a > 0 ? a : std::expm1(a);
    }
}

}  // namespace

extern "C" {

int apply32(int function, const float* x, float* y, long n) { return apply(function, x, y, n); }
int apply64(int function, const double* x, double* y, long n) { return apply(function, x, y, n); }

// The bits of the function of the N float32 numbers whose bits are FIRST, FIRST + STRIDE, ..., with
// one NaN for all.
int apply_bits(int function, unsigned first, unsigned stride, unsigned* y, long n) {
    float x[1024], value[1024];
    for (long begin = 0; begin < n; begin += 1024) {
        const long count = n - begin < 1024 ? n - begin : 1024;
        for (long i = 0; i < count; ++i) {
            x[i] = corelab::number(first + (unsigned)(begin + i) * stride);
        }
        if (apply(function, x, value, count)) return 1;
        for (long i = 0; i < count; ++i) {
            y[begin + i] = value[i] == value[i] ? corelab::bits(value[i]) : 0x7FC00000u;
        }
    }
    return 0;
}

// The largest error of the function's values Y, as `apply_bits` gives them, of those of the numbers
// that are from LOW to HIGH, in units in the last place of the exact value.
double largest_error(int function, unsigned first, unsigned stride, const unsigned* y, long n,
                     double low, double high) {
    double largest = 0;
    for (long i = 0; i < n; ++i) {
        const float x = corelab::number(first + (unsigned)i * stride);
        if (!(x >= low && x <= high)) continue;
        const double wanted = exact(function, x), size = std::fabs(wanted);
        if (corelab::number(y[i]) == wanted) continue;  // infinite, perhaps
        const double least = 1.17549435082228751e-38;  // of the normal numbers
        const corelab::uint64 exponent = corelab::bits(size < least ? least : size) >> 52;
        const double unit = corelab::number((exponent - 23) << 52);
        const double error = std::fabs((double)corelab::number(y[i]) - wanted) / unit;
        if (!(error <= largest)) largest = error;  // a NaN, too
    }
    return largest;
}

void philox(const corelab::Words* counters, unsigned long long key, corelab::Words* y, long n) {
    for (long i = 0; i < n; ++i) y[i] = corelab::philox(counters[i], key);
}

void uniform(const unsigned* words, float* y, long n) {
    for (long i = 0; i < n; ++i) y[i] = corelab::uniform(words[i]);
}
}
