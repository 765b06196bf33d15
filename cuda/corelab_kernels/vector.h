// Vectors: as many numbers as the widest register of the CPU holds, with one rounding in a product
// that is added. What is computed with them follows from the order of the operations alone, so it
// is the same at every width.
#pragma once

#include "arithmetic.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

namespace corelab {

template <class T> struct Vector;

#if defined(__AVX512F__)
template <> struct Vector<float> {
    static constexpr int32 WIDTH = 16;
    __m512 v;
    static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static Vector all(float x) { return {_mm512_set1_ps(x)}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    Vector operator+(Vector b) const { return {_mm512_add_ps(v, b.v)}; }
    void add_product(Vector a, Vector b) { v = _mm512_fmadd_ps(a.v, b.v, v); }

    // the first N numbers alone: nothing behind them is touched
    static __mmask16 first(int32 n) { return (__mmask16)((1u << n) - 1); }
    static Vector load(const float* p, int32 n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
    void store(float* p, int32 n) const { _mm512_mask_storeu_ps(p, first(n), v); }
};
template <> struct Vector<double> {
    static constexpr int32 WIDTH = 8;
    __m512d v;
    static Vector load(const double* p) { return {_mm512_loadu_pd(p)}; }
    static Vector all(double x) { return {_mm512_set1_pd(x)}; }
    void store(double* p) const { _mm512_storeu_pd(p, v); }
    Vector operator+(Vector b) const { return {_mm512_add_pd(v, b.v)}; }
    void add_product(Vector a, Vector b) { v = _mm512_fmadd_pd(a.v, b.v, v); }

    static __mmask8 first(int32 n) { return (__mmask8)((1u << n) - 1); }
    static Vector load(const double* p, int32 n) { return {_mm512_maskz_loadu_pd(first(n), p)}; }
    void store(double* p, int32 n) const { _mm512_mask_storeu_pd(p, first(n), v); }
};
#elif defined(__AVX2__) && defined(__FMA__)
template <> struct Vector<float> {
    static constexpr int32 WIDTH = 8;
    __m256 v;
    static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static Vector all(float x) { return {_mm256_set1_ps(x)}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    Vector operator+(Vector b) const { return {_mm256_add_ps(v, b.v)}; }
    void add_product(Vector a, Vector b) { v = _mm256_fmadd_ps(a.v, b.v, v); }

    static __m256i first(int32 n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static Vector load(const float* p, int32 n) { return {_mm256_maskload_ps(p, first(n))}; }
    void store(float* p, int32 n) const { _mm256_maskstore_ps(p, first(n), v); }
};
template <> struct Vector<double> {
    static constexpr int32 WIDTH = 4;
    __m256d v;
    static Vector load(const double* p) { return {_mm256_loadu_pd(p)}; }
    static Vector all(double x) { return {_mm256_set1_pd(x)}; }
    void store(double* p) const { _mm256_storeu_pd(p, v); }
    Vector operator+(Vector b) const { return {_mm256_add_pd(v, b.v)}; }
    void add_product(Vector a, Vector b) { v = _mm256_fmadd_pd(a.v, b.v, v); }

    static __m256i first(int32 n) {
        return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
    }
    static Vector load(const double* p, int32 n) { return {_mm256_maskload_pd(p, first(n))}; }
    void store(double* p, int32 n) const { _mm256_maskstore_pd(p, first(n), v); }
};
#else
template <class T> struct Vector {
    static constexpr int32 WIDTH = 16 / sizeof(T);
    T v[WIDTH];
    static Vector load(const T* p) {
        Vector y;
        for (int32 i = 0; i < WIDTH; ++i) y.v[i] = p[i];
        return y;
    }
    static Vector all(T x) {
        Vector y;
        for (T& e : y.v) e = x;
        return y;
    }
    void store(T* p) const {
        for (int32 i = 0; i < WIDTH; ++i) p[i] = v[i];
    }
    Vector operator+(Vector b) const {
        for (int32 i = 0; i < WIDTH; ++i) b.v[i] = v[i] + b.v[i];
        return b;
    }
    void add_product(Vector a, Vector b) {
        for (int32 i = 0; i < WIDTH; ++i) v[i] = fma(a.v[i], b.v[i], v[i]);
    }

    static Vector load(const T* p, int32 n) {
        Vector y;
        for (int32 i = 0; i < WIDTH; ++i) y.v[i] = i < n ? p[i] : (T)0;
        return y;
    }
    void store(T* p, int32 n) const {
        for (int32 i = 0; i < n; ++i) p[i] = v[i];
    }
};
#endif

}  // namespace corelab
