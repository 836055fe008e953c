// Adds up 256 numbers that the copy engine brings into shared memory.
#include <cstdio>

__global__ void sum(const int* in, int* out) {
    __shared__ alignas(16) int tile[256];
    __shared__ unsigned long long barrier;
    const unsigned at = __cvta_generic_to_shared(&barrier), to = __cvta_generic_to_shared(tile);
    if (threadIdx.x == 0) {
        asm("mbarrier.init.shared.b64 [%0], 1;" ::"r"(at) : "memory");
        asm("fence.proxy.async.shared::cta;" ::: "memory");
        asm("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 1024;" ::"r"(at) : "memory");
        asm("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 1024, [%2];" ::"r"(to), "l"(in), "r"(at) : "memory");
    }
    __syncthreads();
    asm("{ .reg .pred p; again: mbarrier.try_wait.parity.shared.b64 p, [%0], 0; @!p bra again; }" ::"r"(at) : "memory");
    atomicAdd(out, tile[threadIdx.x]);
}

int main() {
    int numbers[256], *in, *out, result = 0;
    for (int i = 0; i < 256; ++i) numbers[i] = i;
    cudaMalloc(&in, 1024), cudaMalloc(&out, 4);
    cudaMemcpy(in, numbers, 1024, cudaMemcpyHostToDevice), cudaMemset(out, 0, 4);
    sum<<<1, 256>>>(in, out);
    const cudaError_t status = cudaMemcpy(&result, out, 4, cudaMemcpyDeviceToHost);
    printf("%d, %s\n", result, cudaGetErrorName(status));
}
