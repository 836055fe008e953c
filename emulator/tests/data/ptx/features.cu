// As many directives and operands of PTX as a small file can bring out of nvcc.
#include <cassert>
#include <cstdio>

struct Pair {
    int a;
    double b;
    char c[5];
};

__device__ int counter = 5;
__device__ int* pointer = &counter;
__device__ int table[4] = {1, 2, -3};
__constant__ float coefficients[3] = {1.5f, 2.f};
__constant__ int* places[2] = {table, table + 2};
__device__ double tenth = 0.1;
__device__ const char* text = "hi\n\"x\"";
__managed__ int managed = 3;

typedef int (*Function)(int);
__device__ __noinline__ int triple(int x) { return x * 3 + counter; }
__device__ __noinline__ int flip(int x) { return x ^ 0x55; }
__device__ Function functions[2] = {triple, flip};

__device__ __noinline__ Pair change(Pair pair, int i) {
    pair.a += i;
    pair.b *= 1.1;
    pair.c[i & 3] = i;
    return pair;
}

extern __shared__ __align__(16) unsigned char dynamic[];

extern "C" __global__ void __launch_bounds__(128) __cluster_dims__(2, 1, 1)
    features(int* out, Pair pair, int n, const char** to) {
    __shared__ int shared[32];
    int local[16];
    for (int i = 0; i < 16; i++) local[i] = i * n;
    shared[threadIdx.x & 31] = local[n & 15];
    dynamic[threadIdx.x] = n;
    __syncthreads();
    Pair changed = change(pair, n);
    int r = functions[n & 1](n);
    asm volatile(
        "{ .reg .pred p<3>; .reg .v2 .b32 q; .reg .b32 r1;\n"
        "setp.lt.and.u32 p0|p1, %1, 0b101, !p2; mov.b32 q.x, 017; mov.b32 r1, -0x1F;\n"
        "mov.b64 {q.x, _}, %2; @!p1 bra DONE;\n"
        "LOOP: add.u32 %0, %0, r1; setp.gt.s32 p0, %0, 99U; @p0 bra LOOP; DONE: }"
        : "+r"(r)
        : "r"(n), "l"(out));
    out[threadIdx.x] = changed.a + changed.b + shared[(threadIdx.x + 1) & 31] + dynamic[n] +
        coefficients[n & 1] + *places[n & 1] + r + *pointer + tenth + text[n] + managed;
    if (n == 77) {
        printf("n is %d\n", n);
        __trap();
    }
    if (to) *to = text;
    assert(n != 55);
}
