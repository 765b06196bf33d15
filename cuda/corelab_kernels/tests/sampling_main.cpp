// Runs all of sampling.cpp over rows of many widths, for the sanitizers.
#include "../sampling.cpp"

#include <cstdio>

int main() {
    using namespace corelab;
    for (int64 threads : {1, 3})
        for (int64 width : {1, 3, 32, 33, 256, 1000, 70'000}) {
            const int64 rows = 200'000 / width + 37;  // enough for threads
            std::vector<float> logits(rows * width), one(rows), other(rows), slopes(rows * width);
            for (std::size_t i = 0; i < logits.size(); ++i)
                logits[i] = uniform(philox({(uint32)i, 0, 0, 0}, 1).x) * 8 - 4;
            std::vector<int64> drawn(rows);
            sample_categorical(logits.data(), drawn.data(), rows, width, 1, 5, 1ll << 33, threads);
            drawn[0] = -1, drawn[1] = width;  // no classes
            categorical_log_prob(logits.data(), drawn.data(), one.data(), other.data(), rows, width,
                                 threads);
            categorical_slopes(one.data(), logits.data(), drawn.data(), other.data(), slopes.data(),
                               rows, width, threads);
            if (width % 3) continue;
            sample_logistic_mixture(logits.data(), drawn.data(), rows, width / 3, 5, 0, threads);
            drawn[0] = -1, drawn[1] = 1ll << 40;  // no levels
            logistic_mixture_log_prob(logits.data(), drawn.data(), one.data(), rows, width / 3,
                                      threads);
            logistic_mixture_slopes(one.data(), logits.data(), drawn.data(), slopes.data(), rows,
                                    width / 3, threads);
        }
    std::puts("done");
}
