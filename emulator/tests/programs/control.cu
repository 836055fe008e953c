// Control flow, calls, and memory that is a thread's own or constant.
#include "program.hpp"

#ifdef __CUDACC__
#define TABLE __constant__
#else
#define TABLE static
#endif

TABLE const u32 primes[16] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53};
#ifdef __CUDACC__
__constant__ u32 device_weights[16] = {1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225, 256};
#endif
BOTH u32 weight(u32 index) { return CHOOSE(device_weights[index & 15], (index & 15) * (index & 15) + 2 * (index & 15) + 1); }

BOTH u32 collatz(u32 x) {
    u32 steps = 0;
    for (u64 n = x % 10007 + 1; n != 1; steps++) n = n & 1 ? 3 * n + 1 : n / 2;
    return steps;
}
BOTH u32 divisor(u32 a, u32 b) {
    while (b != 0) {
        u32 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}
CALLED u32 choice(u32 which, u32 x, u32 y) {
    switch (which % 13) {
        case 0: return x + y;
        case 1: return x * 7;
        case 2: return y / 3;
        case 3: return x - y;
        case 4: return x ^ y >> 3;
        case 5: return collatz(y);
        case 6: return x << (y & 31);
        case 7: return x % 11;
        case 8: return divisor(x, y);
        case 9: return x & y;
        case 10: return x > y ? x : y;
        case 11: return ~x;
        default: return primes[y & 15];
    }
}
struct Pair {
    u32 a;
    double b;
    u8 c[5];
    u16 d;
};
CALLED Pair change(Pair pair, u32 by) {
    pair.a += by;
    pair.b = pair.b * 0.5 + by;
    pair.c[by % 5] ^= by;
    pair.d = pair.c[0] * 3 + pair.d;
    return pair;
}
CALLED u64 summed(const u8* from, u32 count) {
    u64 sum = 0;
    for (u32 i = 0; i < count; i++) sum = sum * 31 + from[i];
    return sum;
}
CALLED void doubled(u32* x, s16* y) {
    *x *= 2;
    *y -= 5;
}
BOTH u64 structures(u64 a, u64 b, u64 c) {
    Pair pair = {(u32)a, (double)(u32)b, {1, 2, 3, (u8)c, (u8)a}, (u16)b};
    for (u32 i = 0; i < (c & 3) + 1; i++) pair = change(pair, (u32)(b >> i) & 0xFFFF);
    return pair.a + (u64)pair.b + pair.c[(u32)a % 5] + ((u64)pair.d << 40);
}
BOTH u64 pointers(u64 a, u64 b) {
    u32 x[3] = {(u32)a, (u32)b, 77};
    s16 y[4] = {1, (s16)b, -3, (s16)a};
    u32 at = (u32)(a ^ b);
    doubled(&x[at % 3], &y[at % 4]);
    doubled(&x[(at + 1) % 3], &y[(at + 2) % 4]);
    return ((u64)x[0] + x[1] + x[2]) ^ (u64)(u16)(y[0] + y[1] * 3 + y[2] * 5 + y[3] * 7) << 32;
}
// Sorted in an array of the thread, whose places depend on the numbers.
BOTH u64 sorted(u64 a, u64 b) {
    u8 list[16];
    for (int i = 0; i < 8; i++) list[i] = a >> (8 * i), list[8 + i] = b >> (8 * i);
    for (int i = 1; i < 16; i++) {
        u8 x = list[i];
        int j = i;
        for (; j > 0 && list[j - 1] > x; j--) list[j] = list[j - 1];
        list[j] = x;
    }
    return summed(list, 16);
}
BOTH u64 histogram(u64 a, u64 b, u64 c) {
    u32 counts[8] = {};
    for (int i = 0; i < 21; i++) {
        counts[a >> (3 * i) & 7] += (u32)b;
        if ((c >> i & 1) == 0) continue;
        if (counts[(b + i) & 7] > 0xF0000000u) break;
        counts[(b + i) & 7] += i;
    }
    u64 sum = 0;
    for (int i = 0; i < 8; i++) sum = sum * 1000003 + counts[i];
    return sum;
}
BOTH u64 nested(u32 a, u32 b, u32 c) {
    u64 sum = 0;
    for (u32 i = 0; i < (a & 7); i++) {
        for (u32 j = i; j < (b & 15); j++) {
            if (((i * j) ^ c) % 5 == 0) continue;
            if (j * i > (c & 63)) goto next;
            sum = sum * 3 + i * j;
        }
        sum += 1;
    next:
        sum ^= i << 7;
    }
    return sum;
}
BOTH u32 many(u32 x) {
    switch (x & 31) {
        case 0: x += 5; // goes on
        case 1: x *= 3; break;
        case 2: x ^= 0x55; break;
        case 3: return x / 7;
        case 4: case 5: case 6: x -= 9; // goes on
        case 7: x <<= 2; break;
        case 8: x = ~x; break;
        case 9: x = x * x; break;
        case 10: x >>= 3; break;
        case 11: x += x >> 5; break;
        case 20: x = 1; break;
        case 31: return 99;
        default: x = x % 1000;
    }
    return x + 1;
}
typedef u32 (*Function)(u32);
CALLED u32 triple(u32 x) { return 3 * x; }
CALLED u32 flip(u32 x) { return x ^ 0x5555; }
CALLED u32 half_of(u32 x) { return x / 2; }
#ifdef __CUDACC__
__device__ Function device_functions[3] = {triple, flip, half_of};
#endif
BOTH u32 by_pointer(u32 a, u32 b) {
#ifdef __CUDA_ARCH__
    return device_functions[a % 3](b);
#else
    Function functions[3] = {triple, flip, half_of};
    return functions[a % 3](b);
#endif
}

#define OPERATIONS(X) \
    X(divergent_loop, collatz(a)) X(euclid, divisor(a, b)) X(table, primes[a & 15] * weight(b)) \
    X(switches, choice(a, b, c)) X(falls_through, many(a)) X(same_switch, choice(5, b, c)) \
    X(structs, structures(a, b, c)) X(by_address, pointers(a, b)) X(insertion_sort, sorted(a, b)) \
    X(counted, histogram(a, b, c)) X(jumps, nested(a, b, c)) X(function_pointer, by_pointer(a, b)) \
    X(short_circuit, ((u32)a != 0 && (u32)b / ((u32)a | 1) > 3) || (b & 1 && collatz(b) > 20))

#include "run.hpp"
