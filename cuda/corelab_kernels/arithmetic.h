// The arithmetic of every kernel, for g++ and clang on a CPU and for nvcc and NVRTC on a GPU.
//
// The same bits everywhere. IEEE addition, multiplication, division and fused multiply-add are
// rounded alike by every target, so results can differ only where a compiler is free to choose:
//   - a product that is added to something is an fma by name, so there is nothing to contract
//     (compile with -ffp-contract=off and --fmad=false all the same);
//   - there is no call of a mathematical library;
//   - sums have an order, which belongs to the definition.
// Which of the many NaN a NaN is may differ.
//
// Errors are in units in the last place of the exact result, the largest that was found among all
// float32 numbers; tests/test_arithmetic.py measures them.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define CORELAB_HD __host__ __device__ __forceinline__
#define CORELAB_CALL __host__ __device__
#define CORELAB_PHASE __host__ __device__ __noinline__  // with all registers to itself
#else
#define CORELAB_HD inline
#define CORELAB_CALL
#define CORELAB_PHASE
#endif

namespace corelab {

using int32 = int;
using uint32 = unsigned int;
using int64 = long long;
using uint64 = unsigned long long;

// ---- bits and fma -------------------------------------------------------------------------------

#if defined(__CUDA_ARCH__)
CORELAB_HD uint32 bits(float x) { return __float_as_uint(x); }
CORELAB_HD uint64 bits(double x) { return (uint64)__double_as_longlong(x); }
CORELAB_HD float number(uint32 x) { return __uint_as_float(x); }
CORELAB_HD double number(uint64 x) { return __longlong_as_double((int64)x); }
CORELAB_HD float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
CORELAB_HD double fma(double a, double b, double c) { return __fma_rn(a, b, c); }
#else
template <class To, class From> CORELAB_HD To reinterpret(From x) {
    To y;
    static_assert(sizeof x == sizeof y, "as many bits");
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}
CORELAB_HD uint32 bits(float x) { return reinterpret<uint32>(x); }
CORELAB_HD uint64 bits(double x) { return reinterpret<uint64>(x); }
CORELAB_HD float number(uint32 x) { return reinterpret<float>(x); }
CORELAB_HD double number(uint64 x) { return reinterpret<double>(x); }
CORELAB_HD float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
CORELAB_HD double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#endif

CORELAB_HD float power_of_two(int32 n, float) { return number((uint32)(n + 127) << 23); }
CORELAB_HD double power_of_two(int32 n, double) { return number((uint64)(n + 1023) << 52); }

CORELAB_HD float infinity(float) { return number(0x7F800000u); }
CORELAB_HD double infinity(double) { return number(0x7FF0000000000000ull); }

template <class T> CORELAB_HD T smaller(T a, T b) { return b < a ? b : a; }  // a, if b is NaN
template <class T> CORELAB_HD T larger(T a, T b) { return b > a ? b : a; }

// ---- exp ----------------------------------------------------------------------------------------

// x = n log 2 + r with |r| <= log(2) / 2, and e^r - 1 of it
template <class T> struct Reduced {
    int32 n;
    T rest;
};

// The number that is added and taken away again to round to a whole one: 1.5 times 2^23 or 2^52.
// The rest is a polynomial: r + r^2 P(r).
CORELAB_HD Reduced<float> reduce(float x) {
    const float magic = 12582912.0f;
    const float shifted = fma(x, 1.44269504f, magic);
    const int32 n = (int32)(bits(shifted) - bits(magic));
    const float k = shifted - magic;
    float r = fma(k, -0.693359375f, x);
    r = fma(k, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;  // Cephes, expf
    p = fma(p, r, 1.3981999507e-3f);
    p = fma(p, r, 8.3334519073e-3f);
    p = fma(p, r, 4.1665795894e-2f);
    p = fma(p, r, 1.6666665459e-1f);
    p = fma(p, r, 5.0000001201e-1f);
    return {n, fma(p, r * r, r)};
}

CORELAB_HD Reduced<double> reduce(double x) {
    const double magic = 6755399441055744.0;
    const double shifted = fma(x, 1.4426950408889634, magic);
    const int32 n = (int32)(uint32)bits(shifted);
    const double k = shifted - magic;
    double r = fma(k, -6.93147180369123816490e-01, x);
    r = fma(k, -1.90821492927058770002e-10, r);
    double p = 1.0 / 6227020800.0;  // Taylor's series to r^13, whose rest is below 2^-57
    p = fma(p, r, 1.0 / 479001600.0);
    p = fma(p, r, 1.0 / 39916800.0);
    p = fma(p, r, 1.0 / 3628800.0);
    p = fma(p, r, 1.0 / 362880.0);
    p = fma(p, r, 1.0 / 40320.0);
    p = fma(p, r, 1.0 / 5040.0);
    p = fma(p, r, 1.0 / 720.0);
    p = fma(p, r, 1.0 / 120.0);
    p = fma(p, r, 1.0 / 24.0);
    p = fma(p, r, 1.0 / 6.0);
    p = fma(p, r, 0.5);
    return {n, fma(p, r * r, r)};
}

CORELAB_HD float lowest_exponent(float) { return -104.0f; }  // e to it is rounded to 0
CORELAB_HD double lowest_exponent(double) { return -746.0; }
CORELAB_HD float highest_exponent(float) { return 89.0f; }  // and to infinity
CORELAB_HD double highest_exponent(double) { return 710.0; }

// e^x, subnormal numbers included. Within 1.1 ulp.
template <class T> CORELAB_HD T exp(T x) {
    x = x < lowest_exponent(x) ? lowest_exponent(x) : x;
    x = x > highest_exponent(x) ? highest_exponent(x) : x;
    const Reduced<T> e = reduce(x);
    const int32 half = e.n >> 1;  // 2^n itself need not be a number
    const T scale = power_of_two(half, x);
    return fma(e.rest, scale, scale) * power_of_two(e.n - half, x);
}

// e^x - 1 for x <= 0, which is all that tanh and ELU need. Within 0.9 ulp.
template <class T> CORELAB_HD T expm1(T x) {
    const T lowest = (T)-80;
    const Reduced<T> e = reduce(x < lowest ? lowest : x);
    const T scale = power_of_two(e.n, x);
    return fma(e.rest, scale, scale - (T)1);
}

// ---- log ----------------------------------------------------------------------------------------

// log x: NaN below 0, -infinity at 0, subnormal numbers included. Within 0.9 ulp.
CORELAB_HD float log(float x) {
    const bool subnormal = x < 1.17549435e-38f;
    const float normal = subnormal ? x * 8388608.0f : x;
    const uint32 i = bits(normal);
    int32 e = (int32)(i >> 23) - (subnormal ? 149 : 126);
    float m = number((i & 0x007FFFFFu) | 0x3F000000u);  // x = m 2^e, m from 1/2 to 1
    const bool low = m < 0.707106781f;
    e = low ? e - 1 : e;
    m = (low ? m + m : m) - 1.0f;
    float p = 7.0376836292e-2f;  // Cephes, logf
    p = fma(p, m, -1.1514610310e-1f);
    p = fma(p, m, 1.1676998740e-1f);
    p = fma(p, m, -1.2420140846e-1f);
    p = fma(p, m, 1.4249322787e-1f);
    p = fma(p, m, -1.6668057665e-1f);
    p = fma(p, m, 2.0000714765e-1f);
    p = fma(p, m, -2.4999993993e-1f);
    p = fma(p, m, 3.3333331174e-1f);
    const float square = m * m, k = (float)e;
    float y = fma(p, m * square, k * -2.12194440e-4f);
    y = fma(-0.5f, square, y);
    y = fma(k, 0.693359375f, m + y);
    y = x == infinity(x) ? x : y;
    y = x == 0.0f ? -infinity(x) : y;
    return x >= 0.0f ? y : number(0x7FC00000u);
}

CORELAB_HD double log(double x) {
    const bool subnormal = x < 2.2250738585072014e-308;
    const double normal = subnormal ? x * 4503599627370496.0 : x;
    const uint64 i = bits(normal);
    int32 e = (int32)(i >> 52) - (subnormal ? 1074 : 1022);
    double m = number((i & 0x000FFFFFFFFFFFFFull) | 0x3FE0000000000000ull);
    const bool low = m < 0.70710678118654752;
    e = low ? e - 1 : e;
    m = low ? m + m : m;
    // log m = 2 artanh s, s = (m - 1) / (m + 1), |s| < 0.172: its series to s^23
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 23.0;
    p = fma(p, z, 1.0 / 21.0);
    p = fma(p, z, 1.0 / 19.0);
    p = fma(p, z, 1.0 / 17.0);
    p = fma(p, z, 1.0 / 15.0);
    p = fma(p, z, 1.0 / 13.0);
    p = fma(p, z, 1.0 / 11.0);
    p = fma(p, z, 1.0 / 9.0);
    p = fma(p, z, 1.0 / 7.0);
    p = fma(p, z, 1.0 / 5.0);
    p = fma(p, z, 1.0 / 3.0);
    const double k = (double)e, twice = s + s;
    double y = fma(p, twice * z, k * 1.90821492927058770002e-10);
    y = fma(k, 6.93147180369123816490e-01, twice + y);
    y = x == infinity(x) ? x : y;
    y = x == 0.0 ? -infinity(x) : y;
    return x >= 0.0 ? y : number(0x7FF8000000000000ull);
}

// ---- what networks are made of ------------------------------------------------------------------

// 1 / (1 + e^-x). Within 2.5 ulp from -87 on; 0 where e^-x is infinite.
template <class T> CORELAB_HD T sigmoid(T x) { return (T)1 / ((T)1 + exp(-x)); }

// tanh |x| = -t / (t + 2), t = e^-2|x| - 1. Within 2.6 ulp.
template <class T> CORELAB_HD T tanh(T x) {
    const T magnitude = x < (T)0 ? -x : x;
    const T t = expm1((T)-2 * magnitude);
    const T y = t / (t + (T)2);
    return x < (T)0 ? y : -y;
}

// tanh(a) sigmoid(b) with one division. Within 4.7 ulp where b is above -87.
template <class T> CORELAB_HD T gate(T a, T b) {
    const T magnitude = a < (T)0 ? -a : a;
    const T t = expm1((T)-2 * magnitude);
    const T y = t / ((t + (T)2) * ((T)1 + exp(-b)));
    return a < (T)0 ? y : -y;
}

template <class T> CORELAB_HD T relu(T x) { return x < (T)0 ? (T)0 : x; }

// x, or e^x - 1 below 0. Within 0.9 ulp.
template <class T> CORELAB_HD T elu(T x) {
    const T below = expm1(x > (T)0 ? (T)0 : x);
    return x > (T)0 ? x : below;
}

// ---- random numbers -----------------------------------------------------------------------------

// Philox4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3): four words for
// each counter and key, and no state.
struct Words {
    uint32 x, y, z, w;
};

CORELAB_HD uint32 high(uint32 a, uint32 b) { return (uint32)(((uint64)a * b) >> 32); }

CORELAB_HD Words philox(Words counter, uint64 key) {
    uint32 low = (uint32)key, top = (uint32)(key >> 32);
    Words c = counter;
    for (int32 round = 0; round < 10; ++round) {
        c = {high(0xCD9E8D57u, c.z) ^ c.y ^ low, 0xCD9E8D57u * c.z,
             high(0xD2511F53u, c.x) ^ c.w ^ top, 0xD2511F53u * c.x};
        low += 0x9E3779B9u;
        top += 0xBB67AE85u;
    }
    return c;
}

// Uniform from 2^-24 to 1 - 2^-24 in steps of 2^-23, exactly: neither 0 nor 1.
CORELAB_HD float uniform(uint32 word) {
    return ((float)(word >> 9) + 0.5f) * 1.1920928955078125e-7f;
}

}  // namespace corelab
