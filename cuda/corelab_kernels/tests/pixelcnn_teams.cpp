// Images drawn by one thread and by teams of several, which must be the same: the phases and
// barriers of a GPU, for the sanitizers. With an argument, that barrier is left out.
#include "../pixelcnn.cpp"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>

using namespace corelab;

namespace {

// Three barriers in turn: of one that is used twice running, as one of two would be if the one
// between is left out, a thread that leaves late takes the next release for its own, and the
// sanitizer sees an order that is not there.
constexpr int32 BARRIERS = 3;

struct Member {
    static constexpr bool AHEAD = true;
    int32 index, members, leave_out;
    pthread_barrier_t* barriers;
    int32* waits;

    template <class T> void product(const Product<T>& p) const {
        for (int32 i = index; i < p.images * p.places * p.n; i += members) {
            const int32 n = i % p.n, image = i / p.n / p.places, x = i / p.n % p.places;
            const T* extra = p.start(image, x);
            T* y = p.y + image * p.y_image + x * p.y_place + n;
            T sum = p.bias ? (extra ? p.bias[n] + extra[n] : p.bias[n]) : extra ? extra[n] : *y;
            const T* a = p.a + image * p.a_image + x * p.a_place;
            for (int32 k = 0; k < p.k; ++k) sum = corelab::fma(a[k], p.w[(int64)k * p.n + n], sum);
            *y = sum;
        }
    }
    template <class F> void each(int32 images, int32 places, int32 channels, F f) const {
        for (int32 i = index; i < images * places * channels; i += members) {
            f(i / channels / places, i / channels % places, i % channels);
        }
    }
    template <class F> void alone(int32 images, F f) const {
        for (int32 i = index; i < images; i += members) f(i);
    }
    void sync() const {
        const int32 wait = (*waits)++;
        if (wait != leave_out) pthread_barrier_wait(barriers + wait % BARRIERS);
    }
    void share() const { sync(); }
};

float random_number() { return (float)rand() / RAND_MAX - 0.5f; }

// Whether teams of 1 and of 4 draw the same images; a team of 4 leaves out barrier LEAVE_OUT.
template <class T> bool same(Network net, T temperature, int32 top_k, int32 leave_out) {
    const int32 images = 2, members = 4, size = images * net.channels * net.height * net.width;
    std::vector<T> weights(200'000), context(4 * net.layers * net.features), uniforms(size);
    for (T& w : weights) w = random_number();
    for (T& c : context) c = random_number();
    for (T& u : uniforms) u = random_number() + (T)0.5;
    std::vector<int64> one(size), other(size), failed(images);
    Task<T> task = {net, weights.data(), context.data(), 0, 0, 0, uniforms.data(), one.data(),
                    images, 1, temperature, top_k, nullptr, failed.data()};
    if (run(task, 1)) return false;

    task.symbols = other.data();
    std::vector<T> far(Sampler<T, Member>(Member(), task, Memory<T>{}, 0, images).size());
    std::vector<T> near(far.size() / 2 / ALIGN * ALIGN);
    const Memory<T> memory = {{near.data(), 0}, {far.data(), 0}, (int64)near.size()};
    pthread_barrier_t barriers[BARRIERS];
    for (auto& barrier : barriers) pthread_barrier_init(&barrier, nullptr, members);
    std::vector<std::thread> team;
    for (int32 i = 0; i < members; ++i) {
        team.emplace_back([&, i] {
            int32 waits = 0;
            const Member member = {i, members, leave_out, barriers, &waits};
            Sampler<T, Member>(member, task, memory, 0, images).run();
        });
    }
    for (std::thread& member : team) member.join();
    for (auto& barrier : barriers) pthread_barrier_destroy(&barrier);
    int32 symbols = 0;
    for (int64 s : one) symbols += s != one[0];
    return one == other && symbols && !failed[0] && !failed[1];
}

}  // namespace

int main(int count, char** words) {
    const int32 leave_out = count > 1 ? atoi(words[1]) : -1;
    const Network gated = {GATED, 4, 5, 2, 20, 1, 2, 12, 5, 3, 10, 20, 0};
    const Network mixed = {PLUSPLUS, 4, 5, 3, 256, 1, 2, 12, 3, 3, 10, 15, 3};
    bool fine = same<float>(gated, 1, 0, leave_out) && same<double>(gated, 0.5, 5, -1);
    fine = fine && same<float>(mixed, 1, 0, -1) && same<double>(mixed, 0.5, 5, -1);
    puts(fine ? "the same" : "different");
    return !fine;
}
