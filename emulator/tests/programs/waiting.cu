// Kernels whose warps wait for others by polling, grid barriers, and memory that host and device share.
//
//   waiting PART
//
// prints "right" where the results of the part are.
#include <cooperative_groups.h>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

namespace cg = cooperative_groups;
using u32 = uint32_t;
using u64 = uint64_t;

#define CHECK(call)                                                                  \
    do {                                                                             \
        cudaError_t status = (call);                                                 \
        if (status != cudaSuccess) {                                                 \
            printf("%s: %s\n", #call, cudaGetErrorName(status));                     \
            return 1;                                                                \
        }                                                                            \
    } while (0)

__device__ u32 load(const u32* flag) {
    u32 value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
}

__device__ u32 load_of_system(const volatile u32* flag) {
    u32 value;
    asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
}

__device__ void store(u32* flag, u32 value) {
    asm volatile("st.release.gpu.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}

// Work that takes a while and touches no memory.
__device__ u32 work(u32 steps) {
    u32 x = steps;
    for (u32 i = 0; i < steps; ++i) x = x * 1664525u + 1013904223u;
    return x;
}

// Every block adds up what all of them wrote in the round before.
__global__ void rounds(u32* sums, u32 count, bool waits) {
    cg::grid_group grid = cg::this_grid();
    for (u32 round = 0; round < count; ++round) {
        if (threadIdx.x == 0) {
            u32 sum = blockIdx.x + 1;
            if (round > 0) {
                for (u32 block = 0; block < gridDim.x; ++block) sum += sums[(round - 1) * gridDim.x + block];
            }
            sums[round * gridDim.x + blockIdx.x] = sum;
        }
        if (waits) grid.sync();
    }
}

enum Wait { PLAIN, SLEEPING, STORING, TOGETHER };

// The last block sets the flag that all others wait for, if `sets`.
__global__ void flag_of_last(u32* flag, u32* out, int how, bool sets) {
    __shared__ u32 polls;
    if (blockIdx.x == gridDim.x - 1) {
        if (threadIdx.x == 0 && sets) {
            out[blockIdx.x] = work(200000);
            store(flag, 1);
        }
    } else if (threadIdx.x == 0 || how == TOGETHER) {
        u32 nanoseconds = 8;
        while (load(flag) == 0) {
            if (how == SLEEPING) {
                __nanosleep(nanoseconds);
                if (nanoseconds < 256) nanoseconds *= 2;
            }
            if (how == STORING) *(volatile u32*)&polls = 1;
        }
        if (threadIdx.x == 0) out[blockIdx.x] = 7;
    }
    __syncthreads();
}

// Gives up after some polls.
__global__ void counted(const u32* flag, u32* out, u32 most) {
    u32 polls = 0;
    while (load(flag) == 0 && polls < most) ++polls;
    out[threadIdx.x] = polls;
}

// Gives up after some time.
__global__ void timed(const u32* flag, u32* out, long long most) {
    const long long begin = clock64();
    while (load(flag) == 0 && clock64() - begin < most) {
    }
    out[threadIdx.x] = 5;
}

// A lock around an addition; one that gives it back, and one that does not.
__global__ void locked(u32* lock, volatile u32* sum, bool unlocks) {
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0) {
        }
        __threadfence();
        *sum = *sum + 1;
        __threadfence();
        if (unlocks) atomicExch(lock, 0);
    }
}

// Two blocks, each of which waits for the flag that the other one sets afterwards.
__global__ void crosswise(u32* flags) {
    if (threadIdx.x == 0) {
        while (load(&flags[1 - blockIdx.x]) == 0) {
        }
        store(&flags[blockIdx.x], 1);
    }
}

// A warp of the same block sets the flag, late.
__global__ void of_neighbor(u32* out, u32 steps) {
    __shared__ volatile u32 flag;
    if (threadIdx.x == 0) flag = 0;
    __syncthreads();
    if (threadIdx.x == 32) {
        out[1] = work(steps);
        flag = steps > 0;
    }
    if (threadIdx.x == 0) {
        while (flag == 0) {
        }
        out[0] = 9;
    }
}

// Warp 1 waits for an mbarrier that nobody arrives at, and sets the flag for warp 0 once that took too long, if `sets`.
__global__ void impatient(u32* flag, u32* out, bool sets) {
    __shared__ u64 barrier;
    const u32 at = (u32)__cvta_generic_to_shared(&barrier);
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(at) : "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        while (load(flag) == 0) {
        }
        out[0] = 3;
        asm volatile("{\n.reg .b64 %%state;\nmbarrier.arrive.shared.b64 %%state, [%0];\n}" ::"r"(at) : "memory");
    }
    if (threadIdx.x == 32) {
        u32 done = 0;
        for (u32 attempts = 0; done == 0; ++attempts) {
            asm volatile(
                "{\n.reg .pred %%p;\nmbarrier.try_wait.parity.shared.b64 %%p, [%1], 0;\nselp.u32 %0, 1, 0, %%p;\n}"
                : "=r"(done)
                : "r"(at)
                : "memory");
            if (sets && attempts == 20) store(flag, 1);
        }
    }
}

// Says that it has begun, and waits for the host.
__global__ void for_host(volatile u32* begun, volatile u32* flag) {
    *begun = 1;
    while (load_of_system(flag) == 0) {
    }
}

__managed__ u32 counter = 5;
__managed__ u32 numbers[3] = {1, 2, 3};
__device__ u32 plain;

__global__ void add(u32* more) {
    counter += 10;
    numbers[1] += numbers[2];
    plain = counter;
    for (u32 i = 0; i < 4; ++i) more[i] += i;
}

static int said(bool right) {
    puts(right ? "right" : "wrong");
    return right ? 0 : 1;
}

static int grid_barrier(u32 blocks, bool cooperative, bool waits) {
    const u32 count = 4;
    u32* sums;
    CHECK(cudaMalloc(&sums, 4 * blocks * count));
    CHECK(cudaMemset(sums, 0, 4 * blocks * count));
    u32 rounds_of_kernel = count;
    void* arguments[] = {&sums, &rounds_of_kernel, &waits};
    if (cooperative) {
        CHECK(cudaLaunchCooperativeKernel((void*)rounds, dim3(blocks), dim3(64), arguments, 0, nullptr));
    } else {
        CHECK(cudaLaunchKernel((void*)rounds, dim3(blocks), dim3(64), arguments, 0, nullptr));
    }
    CHECK(cudaDeviceSynchronize());
    std::vector<u32> found(blocks * count);
    CHECK(cudaMemcpy(found.data(), sums, 4 * blocks * count, cudaMemcpyDeviceToHost));
    u32 before = 0;
    bool right = true;
    for (u32 round = 0; round < count; ++round) {
        u32 sum = 0;
        for (u32 block = 0; block < blocks; ++block) {
            right &= found[round * blocks + block] == before + block + 1;
            sum += before + block + 1;
        }
        before = sum;
    }
    return said(right);
}

static int managed() {
    u32* more;
    CHECK(cudaMallocManaged(&more, 16));
    for (u32 i = 0; i < 4; ++i) more[i] = 100;
    counter += 1;
    numbers[2] = 30;
    add<<<1, 1>>>(more);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    u32 copied = 0, of_plain = 0;
    CHECK(cudaMemcpyFromSymbol(&copied, counter, 4));
    CHECK(cudaMemcpyFromSymbol(&of_plain, plain, 4));
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, numbers));
    bool right = counter == 16 && copied == 16 && of_plain == 16 && attributes.type == cudaMemoryTypeManaged;
    right &= numbers[0] == 1 && numbers[1] == 32 && numbers[2] == 30;
    for (u32 i = 0; i < 4; ++i) right &= more[i] == 100 + i;
    CHECK(cudaFree(more));
    return said(right && cudaFree(numbers) != cudaSuccess);
}

static int with_host() {
    u32* words;
    CHECK(cudaHostAlloc((void**)&words, 256, cudaHostAllocMapped));
    volatile u32* begun = words;
    volatile u32* flag = words + 32;
    *begun = *flag = 0;
    // The kernel polls for long before the host answers.
    std::thread host([=] {
        while (*begun == 0) std::this_thread::yield();
        volatile u64 x = 1;
        for (u32 i = 0; i < 20000000; ++i) x = x * 5;
        *flag = 1;
    });
    for_host<<<1, 32>>>(begun, flag);
    cudaError_t status = cudaDeviceSynchronize();
    if (status != cudaSuccess) {
        puts(cudaGetErrorName(status));
        fflush(stdout);
        _Exit(1);
    }
    host.join();
    return said(true);
}

int main(int, char** words) {
    const char* part = words[1];
    auto is = [&](const char* name) { return strcmp(part, name) == 0; };
    if (is("grid")) return grid_barrier(12, true, true);
    if (is("grid-without-barrier")) return grid_barrier(12, true, false);
    if (is("grid-of-plain-launch")) return grid_barrier(2, false, true);
    if (is("grid-too-large")) return grid_barrier(100000, true, true);
    if (is("managed")) return managed();
    if (is("host")) return with_host();

    const u32 blocks = 6;
    u32* memory;
    CHECK(cudaMalloc(&memory, 1024));
    CHECK(cudaMemset(memory, 0, 1024));
    u32* out = memory + 64;
    u32 expected = 7;
    if (is("later")) flag_of_last<<<blocks, 64>>>(memory, out, PLAIN, true);
    else if (is("later-asleep")) flag_of_last<<<blocks, 64>>>(memory, out, SLEEPING, true);
    else if (is("later-together")) flag_of_last<<<blocks, 64>>>(memory, out, TOGETHER, true);
    else if (is("never")) flag_of_last<<<blocks, 64>>>(memory, out, PLAIN, false);
    else if (is("never-asleep")) flag_of_last<<<blocks, 64>>>(memory, out, SLEEPING, false);
    else if (is("never-storing")) flag_of_last<<<blocks, 64>>>(memory, out, STORING, false);
    // With the most shared memory each block has a multiprocessor of its own, of which there are two.
    else if (is("beyond")) {
        const int most = 200 * 1024;
        CHECK(cudaFuncSetAttribute(flag_of_last, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
        flag_of_last<<<3, 64, most>>>(memory, out, PLAIN, true);
    } else if (is("never-together")) flag_of_last<<<blocks, 64>>>(memory, out, TOGETHER, false);
    else if (is("counted")) counted<<<1, 32>>>(memory, out, expected = 100000);
    else if (is("timed")) expected = 5, timed<<<1, 32>>>(memory, out, 300000);
    else if (is("locked")) expected = blocks, locked<<<blocks, 32>>>(memory, out, true);
    else if (is("locked-for-ever")) locked<<<blocks, 32>>>(memory, out, false);
    else if (is("crosswise")) crosswise<<<2, 32>>>(memory);
    else if (is("neighbor")) expected = 9, of_neighbor<<<1, 64>>>(out, 100000);
    else if (is("neighbor-never")) of_neighbor<<<1, 64>>>(out, 0);
    else if (is("impatient")) expected = 3, impatient<<<1, 64>>>(memory, out, true);
    else if (is("patient")) impatient<<<1, 64>>>(memory, out, false);
    else return puts("no such part"), 2;
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    u32 found = 0;
    CHECK(cudaMemcpy(&found, out, 4, cudaMemcpyDeviceToHost));
    return said(found == expected);
}
