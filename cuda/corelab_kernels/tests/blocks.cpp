// Runs the kernels of sampling.cu on a CPU, see driver.h.
#include "driver.h"

#include "../sampling.cu"

#define KERNEL(name) function(#name, corelab::name)

namespace {

std::vector<Function> kernels() {
    return {KERNEL(sample_categorical),        KERNEL(categorical_log_prob),
            KERNEL(categorical_slopes),        KERNEL(sample_logistic_mixture),
            KERNEL(logistic_mixture_log_prob), KERNEL(logistic_mixture_slopes)};
}

}  // namespace

#ifdef PROGRAM  // for the sanitizer
#include <cstdio>

int main() {
    using namespace corelab;
    for (int64 classes : {3, 300, 70'000}) {
        int64 rows = 9, seed = 1, first = 0;
        float scale = 1;
        std::vector<float> logits(rows * classes), log_p(rows), sums(rows);
        for (std::size_t i = 0; i < logits.size(); ++i)
            logits[i] = uniform(philox({(uint32)i, 0, 0, 0}, 1).x) * 8 - 4;
        std::vector<int64> drawn(rows);
        float *p = logits.data(), *l = log_p.data(), *s = sums.data();
        int64* d = drawn.data();
        void* draw[] = {&p, &d, &rows, &classes, &scale, &seed, &first};
        run(*find("sample_categorical"), rows, THREADS, draw);
        void* judge[] = {&p, &d, &l, &s, &rows, &classes};
        run(*find("categorical_log_prob"), rows, THREADS, judge);
    }
    std::puts("done");
}
#endif
