// Threads that work together: each result is a number for each thread, which the host gets without threads.
#include "program.hpp"

// Threads of a block, blocks of a cluster, clusters.
enum { THREADS = 96, CLUSTER = 2, CLUSTERS = 3, TOTAL = THREADS * CLUSTER * CLUSTERS };
// A part of the results for each of them.
enum {
    REVERSED, SUMMED, SCANNED, BALLOT, DOWN, BUTTERFLY, SEGMENTS, COUNTED, HELD, GREATEST, NEIGHBOUR, REDUCED, MATCHED,
    ELECTED, DIVERGED, PARTS
};

#ifdef __CUDACC__
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

extern __shared__ u64 dynamic[];

__device__ __noinline__ u32 summed(u32 x) {
    for (int by = 16; by > 0; by >>= 1) x += __shfl_xor_sync(~0u, x, by);
    return x;
}

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1)
    cooperate(const u64* in, u64* out, u32* counts) {
    __shared__ u64 fixed[THREADS];
    __shared__ u32 bins[16];
    const u32 t = threadIdx.x, lane = t % 32, id = blockIdx.x * THREADS + t;
    const u64 x = in[id];
    auto put = [&](int part, u64 value) { out[part * TOTAL + id] = value; };

    // Static and dynamic shared memory.
    fixed[t] = x;
    dynamic[t] = x * 3;
    if (t < 16) bins[t] = 0;
    __syncthreads();
    put(REVERSED, fixed[THREADS - 1 - t] + dynamic[(t + 7) % THREADS]);
    for (u32 half = 64; half > 0; half /= 2) {
        __syncthreads();
        if (t < half && t + half < THREADS) fixed[t] += fixed[t + half];
    }
    __syncthreads();
    put(SUMMED, fixed[0]);

    // Exchanges between lanes.
    u32 sum = (u32)x;
    for (u32 by = 1; by < 32; by *= 2) {
        u32 other = __shfl_up_sync(~0u, sum, by);
        if (lane >= by) sum += other;
    }
    put(SCANNED, sum);
    put(BALLOT, (u64)__ballot_sync(~0u, x & 1) << 2 | __any_sync(~0u, x % 97 == 0) << 1 | __all_sync(~0u, x != 3));
    put(DOWN, __shfl_down_sync(~0u, x, 5));
    put(BUTTERFLY, summed((u32)x));
    put(SEGMENTS, __shfl_sync(~0u, x, (lane + 3) & 7, 8));
    put(REDUCED, (u64)__reduce_add_sync(~0u, (u32)x) << 32 | __reduce_max_sync(~0u, (u32)x));
    put(MATCHED, __match_any_sync(~0u, (u32)x % 5));
    // Only some lanes, which take other ways.
    u64 part = 0;
    if (x & 2) {
        u32 mask = __activemask();
        part = __popc(mask & __ballot_sync(mask, x & 4));
    } else if (x & 8) {
        part = 100 + lane;
    }
    __syncwarp();
    put(ELECTED, (x & 2) ? part != 0 || !(x & 4) : part);
    u64 loops = 0;
    for (u32 i = 0; i < (x & 15); i++) loops += __popcll(x >> i);
    put(DIVERGED, loops);

    // Atomic operations on shared and global memory.
    atomicAdd(&bins[x % 16], 1 + (u32)(x & 1));
    atomicAdd(&counts[x % 32], 1);
    atomicMax(&counts[32], (u32)x);
    atomicAnd(&counts[33], (u32)x | 0xFFFF);
    atomicXor((unsigned long long*)(counts + 34), (unsigned long long)x);
    u32 old = counts[36], seen;
    do {
        seen = old;
        old = atomicCAS(&counts[36], seen, seen + (u32)(x & 7));
    } while (old != seen);
    atomicAdd((float*)&counts[37], 0.5f);
    __syncthreads();
    put(COUNTED, bins[t % 16]);

    // The other block of the cluster.
    cg::cluster_group cluster = cg::this_cluster();
    dynamic[t] = x ^ t;
    cluster.sync();
    u64* other = cluster.map_shared_rank(dynamic, cluster.block_rank() ^ 1);
    put(NEIGHBOUR, other[(t + 1) % THREADS] + cluster.block_rank());
    if (t == 0) atomicAdd((unsigned long long*)cluster.map_shared_rank(&fixed[1], 0), 0ull);
    cluster.sync();
    put(HELD, cluster.num_blocks() * 1000 + cluster.thread_rank());
    put(GREATEST, __syncthreads_count(x & 1) * 4 + __syncthreads_or(x == 1) * 2 + (__syncthreads_and(x != 0) != 0));
}
#else
int main(int, char** arguments) {
    std::vector<u64> in(TOTAL), out(PARTS * TOTAL);
    FILE* from = fopen(arguments[1], "rb");
    if (fread(in.data(), 8, TOTAL, from) != TOTAL) return 1;
    u64 counts[38] = {};
    counts[33] = ~0u;
    u64 all = 0;
    for (u32 id = 0; id < TOTAL; id++) {
        u32 t = id % THREADS, lane = t % 32, rank = id / THREADS % CLUSTER;
        const u64 *block = &in[id - t], *warp = &in[id - lane], x = in[id];
        const u64* other = &in[(id / THREADS ^ 1) * THREADS];
        auto put = [&](int part, u64 value) { out[part * TOTAL + id] = value; };
        u64 sum = 0, odd = 0, one = 0, positive = 1, bin = 0;
        for (u32 i = 0; i < THREADS; i++) {
            sum += block[i], odd += block[i] & 1, one |= block[i] == 1, positive &= block[i] != 0;
            if (block[i] % 16 == t % 16) bin += 1 + (block[i] & 1);
        }
        u32 scan = 0, whole = 0, ballot = 0, any = 0, every = 1, most = 0, match = 0;
        for (u32 i = 0; i < 32; i++) {
            if (i <= lane) scan += warp[i];
            whole += warp[i];
            ballot |= (u32)(warp[i] & 1) << i, any |= warp[i] % 97 == 0, every &= warp[i] != 3;
            if ((u32)warp[i] > most) most = warp[i];
            match |= (u32)((u32)warp[i] % 5 == (u32)x % 5) << i;
        }
        put(REVERSED, block[THREADS - 1 - t] + block[(t + 7) % THREADS] * 3);
        put(SUMMED, sum);
        put(SCANNED, scan);
        put(BALLOT, (u64)ballot << 2 | any << 1 | every);
        put(DOWN, warp[lane + 5 < 32 ? lane + 5 : lane]);
        put(BUTTERFLY, whole);
        put(SEGMENTS, warp[(lane & ~7) + ((lane + 3) & 7)]);
        put(REDUCED, (u64)whole << 32 | most);
        put(MATCHED, match);
        put(ELECTED, x & 2 ? 1 : x & 8 ? 100 + lane : 0);
        u64 loops = 0;
        for (u32 i = 0; i < (x & 15); i++) loops += __builtin_popcountll(x >> i);
        put(DIVERGED, loops);
        put(COUNTED, bin);
        put(NEIGHBOUR, (other[(t + 1) % THREADS] ^ (t + 1) % THREADS) + rank);
        put(HELD, CLUSTER * 1000 + rank * THREADS + t);
        put(GREATEST, odd * 4 + one * 2 + positive);
        counts[x % 32]++;
        if ((u32)x > counts[32]) counts[32] = (u32)x;
        counts[33] &= (u32)x | 0xFFFF;
        all ^= x;
        counts[36] += x & 7;
    }
    counts[34] = (u32)all, counts[35] = all >> 32;
    float halves = TOTAL * 0.5f;
    u32 word;
    memcpy(&word, &halves, 4);
    counts[37] = word;
    FILE* to = fopen(arguments[2], "wb");
    fwrite(out.data(), 8, out.size(), to);
    fwrite(counts, 8, 38, to);
    return fclose(to);
}
#endif
