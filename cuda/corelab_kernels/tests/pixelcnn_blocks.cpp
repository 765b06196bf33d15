// Runs the kernels of pixelcnn.cu on a CPU, see driver.h.
#include "driver.h"

#include "../pixelcnn.cu"

#define KERNEL(name) function(#name, corelab::name)

namespace {

std::vector<Function> kernels() {
    return {KERNEL(pixelcnn_sample32), KERNEL(pixelcnn_sample64), KERNEL(pixelcnn_needs32),
            KERNEL(pixelcnn_needs64)};
}

}  // namespace

#ifdef PROGRAM  // for the sanitizer: with an argument, the blocks do not wait for each other there
#include <cstdlib>

namespace {

using namespace corelab;

float random_number() { return (float)rand() / RAND_MAX - 0.5f; }

// Whether clusters of one block, of two and of four draw the same images from a network with so many
// weights for ROWS and for PIXELS.
bool same(Network net, int64 rows, int64 pixels) {
    const int images = 2, threads = 4, room = 2048;
    const int size = images * net.channels * net.height * net.width;
    std::vector<float> weights(rows + pixels), context(4 * net.layers * net.features), uniforms(size);
    for (float& w : weights) w = random_number();
    for (float& c : context) c = random_number();
    for (float& u : uniforms) u = random_number() + 0.5f;
    std::vector<int64> needs(1 + images), one;
    bool equal = true;
    int64* const of = needs.data();
    int most = images;
    void* asked[] = {&net, &most, (void*)&of};
    run(*find("pixelcnn_needs32"), 1, 1, asked);
    for (int blocks : {1, 2, 4}) {
        std::vector<float> workspace(blocks * needs[images]);
        std::vector<int64> drawn(blocks * size), failed(blocks * images);
        Task<float> task = {net, weights.data(), context.data(), 0, 0, 0, uniforms.data(),
                            drawn.data(), images, 1, 1, 0, nullptr, failed.data()};
        Plan plan = {images, (int32)pixels / blocks, room, rows, needs[images]};
        float* memory = workspace.data();
        void* arguments[] = {&task, &plan, &memory};
        run(*find("pixelcnn_sample32"), blocks, threads, arguments, blocks,
            (plan.kept + room) * sizeof(float) + needs[0]);
        if (blocks == 1) one = drawn;
        for (int i = 0; i < blocks * size; ++i) equal &= drawn[i] == one[i % size];
    }
    int symbols = 0;
    for (int64 s : one) symbols += s != one[0];
    return symbols && equal;
}

}  // namespace

int main(int count, char** words) {
    if (count > 1) leave_out = std::atoi(words[1]);
    const bool fine = same({GATED, 4, 5, 2, 20, 1, 2, 12, 5, 3, 10, 20, 0}, 4320, 2240) &&
                      same({PLUSPLUS, 4, 5, 3, 256, 1, 2, 8, 3, 3, 10, 15, 3}, 7552, 3008) &&
                      // of which not all columns can be shared out, nor all weights read at once
                      same({GATED, 2, 3, 3, 20, 1, 2, 33, 3, 3, 9, 20, 0}, 23520, 9120) &&
                      same({PLUSPLUS, 2, 3, 2, 20, 1, 1, 11, 3, 3, 9, 20, 0}, 7008, 2496);
    std::puts(fine ? "the same" : "different");
    return !fine;
}
#endif
