// Runs the kernels of pixelcnn.cu on a CPU, see driver.h.
#include "driver.h"

#include "../pixelcnn.cu"

#define KERNEL(name) function(#name, corelab::name)

namespace {

std::vector<Function> kernels() {
    return {KERNEL(pixelcnn_sample32), KERNEL(pixelcnn_sample64), KERNEL(pixelcnn_workspace32),
            KERNEL(pixelcnn_workspace64)};
}

}  // namespace
