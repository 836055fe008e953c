// Half precision, bfloat16, and the formats of 8, 6 and 4 bits: NVIDIA's headers hold what the host does, and
// arithmetic of half precision is exact arithmetic that is rounded once.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp4.h>
#include <cuda_fp6.h>
#include <cuda_fp8.h>

#include <cmath>

#include "program.hpp"

BOTH float single(u64 bits) {
    u32 low = (u32)bits;
    float x;
    memcpy(&x, &low, 4);
    return x;
}
BOTH double full(u64 bits) {
    double x;
    memcpy(&x, &bits, 8);
    return x;
}
BOTH __half half_of(u64 bits) {
    __half_raw raw;
    raw.x = (u16)bits;
    return raw;
}
BOTH __nv_bfloat16 brain_of(u64 bits) {
    __nv_bfloat16_raw raw;
    raw.x = (u16)bits;
    return raw;
}
BOTH u64 bits(__half x) {
    u16 d = ((__half_raw)x).x;
    return (d & 0x7FFF) > 0x7C00 ? 0x7FFF : d;
}
BOTH u64 bits(__nv_bfloat16 x) {
    u16 d = ((__nv_bfloat16_raw)x).x;
    return (d & 0x7FFF) > 0x7F80 ? 0x7FFF : d;
}
BOTH u64 bits(float x) {
    u32 d;
    if (x != x) return 0x7FFFFFFF;
    memcpy(&d, &x, 4);
    return d;
}

#ifndef __CUDA_ARCH__
// An exact sum of two doubles, as a double whose last bit says whether something was lost: rounding it once more, to
// fewer bits, is rounding the sum.
inline double odd_sum(double x, double y) {
    double sum = x + y;
    double part = sum - x;
    double lost = (x - (sum - part)) + (y - part);
    if (lost == 0 || lost != lost || std::isinf(sum)) return sum;
    u64 word;
    memcpy(&word, &sum, 8);
    if (word & 1) return sum;
    bool away = (lost > 0) == (sum > 0);
    word += away ? 1 : -1;
    memcpy(&sum, &word, 8);
    return sum;
}
// To nearest even with this many bits of significand and this exponent of the smallest one.
inline double nearest(double x, int digits, int least) {
    if (x == 0 || x != x || std::isinf(x)) return x;
    int exponent;
    frexp(x, &exponent);
    int unit = exponent - digits > least ? exponent - digits : least;
    return copysign(ldexp(nearbyint(ldexp(x, -unit)), unit), x);
}
inline __half to_half(double x) {
    double d = nearest(x, 11, -24);
    if (fabs(d) > 65504) d = copysign(INFINITY, d);
    return __double2half(d);
}
inline __nv_bfloat16 to_brain(double x) { return __double2bfloat16(nearest(x, 8, -133)); }
#define HALF(device, host) bits(to_half(host))
#define BRAIN(device, host) bits(to_brain(host))
inline double wide(__half x) { return (double)__half2float(x); }
inline double wide(__nv_bfloat16 x) { return (double)__bfloat162float(x); }
#define HA wide(half_of(a))
#define HB wide(half_of(b))
#define HC wide(half_of(c))
#define BA wide(brain_of(a))
#define BB wide(brain_of(b))
#define BC wide(brain_of(c))
#else
#define HALF(device, host) bits(device)
#define BRAIN(device, host) bits(device)
#endif
#define H(x) half_of(x)
#define W(x) brain_of(x)

BOTH u64 nvfp8(u64 word, __nv_fp8_interpretation_t format) {
    return __nv_cvt_float_to_fp8(single(word), __NV_SATFINITE, format);
}
BOTH u64 pair8(u64 a, u64 b, __nv_fp8_interpretation_t format) {
    return __nv_cvt_float2_to_fp8x2(make_float2(single(a), single(b)), __NV_SATFINITE, format);
}
BOTH u64 pair4(u64 a, u64 b) {
    return __nv_cvt_float2_to_fp4x2(make_float2(single(a), single(b)), __NV_E2M1, cudaRoundNearest);
}
BOTH u64 pair6(u64 a, u64 b, __nv_fp6_interpretation_t format) {
    return __nv_cvt_float2_to_fp6x2(make_float2(single(a), single(b)), format, cudaRoundNearest);
}
BOTH u64 scale(u64 a, bool up) {
    return __nv_cvt_float_to_e8m0(single(a), __NV_SATFINITE, up ? cudaRoundPosInf : cudaRoundZero);
}
BOTH u64 raws(__half2_raw x) {
    __half_raw low, high;
    low.x = x.x, high.x = x.y;
    return bits((__half)low) | bits((__half)high) << 16;
}

#define OPERATIONS(X) \
    X(half_sum, HALF(__hadd_rn(H(a), H(b)), odd_sum(HA, HB))) \
    X(half_difference, HALF(__hsub_rn(H(a), H(b)), odd_sum(HA, -HB))) \
    X(half_product, HALF(__hmul_rn(H(a), H(b)), HA * HB)) \
    X(half_fma, HALF(__hfma(H(a), H(b), H(c)), odd_sum(HA * HB, HC))) \
    X(half_negative, HALF(__hneg(H(a)), -HA)) X(half_absolute, HALF(__habs(H(a)), fabs(HA))) \
    X(half_less, CHOOSE(__hlt(H(a), H(b)), HA < HB)) X(half_equal, CHOOSE(__heq(H(a), H(b)), HA == HB)) \
    X(half_unordered_ge, CHOOSE(__hgeu(H(a), H(b)), !(HA < HB))) \
    X(half_max, bits(__hmax(H(a), H(b)))) X(half_min_nan, bits(__hmin_nan(H(a), H(b)))) \
    X(half_pair, CHOOSE(raws(__hadd2_rn(__halves2half2(H(a), H(b)), __halves2half2(H(b), H(c)))), \
        bits(to_half(odd_sum(HA, HB))) | bits(to_half(odd_sum(HB, HC))) << 16)) \
    X(brain_sum, BRAIN(__hadd_rn(W(a), W(b)), odd_sum(BA, BB))) \
    X(brain_product, BRAIN(__hmul_rn(W(a), W(b)), BA * BB)) \
    X(brain_fma, BRAIN(__hfma(W(a), W(b), W(c)), odd_sum(BA * BB, BC))) \
    X(brain_less, CHOOSE(__hlt(W(a), W(b)), BA < BB)) X(brain_max, bits(__hmax(W(a), W(b)))) \
    X(half_rn, bits(__float2half_rn(single(a)))) X(half_rz, bits(__float2half_rz(single(a)))) \
    X(half_ru, bits(__float2half_ru(single(a)))) X(half_rd, bits(__float2half_rd(single(a)))) \
    X(half_f64, bits(__double2half(full(a)))) X(half_wide, bits(__half2float(H(a)))) \
    X(half_from_s32, bits(__int2half_rn((s32)a))) X(half_from_u16, bits(__ushort2half_rz((u16)a))) \
    X(half_to_s32, (u32)__half2int_rz(H(a))) X(half_to_s16, (u16)__half2short_rz(H(a))) \
    X(brain_rn, bits(__float2bfloat16_rn(single(a)))) X(brain_rz, bits(__float2bfloat16_rz(single(a)))) \
    X(brain_ru, bits(__float2bfloat16_ru(single(a)))) X(brain_wide, bits(__bfloat162float(W(a)))) \
    X(brain_from_s32, bits(__int2bfloat16_rn((s32)a))) X(brain_to_s32, (u32)__bfloat162int_rz(W(a))) \
    X(e4m3, nvfp8(a, __NV_E4M3)) X(e5m2, nvfp8(a, __NV_E5M2)) \
    X(e4m3_pair, pair8(a, b, __NV_E4M3)) X(e5m2_pair, pair8(a, b, __NV_E5M2)) \
    X(e4m3_half, __nv_cvt_halfraw_to_fp8((__half_raw)H(a), __NV_SATFINITE, __NV_E4M3)) \
    X(e4m3_wide, raws(__nv_cvt_fp8x2_to_halfraw2((u16)a, __NV_E4M3))) \
    X(e5m2_wide, raws(__nv_cvt_fp8x2_to_halfraw2((u16)a, __NV_E5M2))) \
    X(e2m1_pair, pair4(a, b)) X(e2m1_wide, raws(__nv_cvt_fp4x2_to_halfraw2((u8)a, __NV_E2M1))) \
    X(e2m3_pair, pair6(a, b, __NV_E2M3)) X(e3m2_pair, pair6(a, b, __NV_E3M2)) \
    X(e8m0_up, scale(a, true)) X(e8m0_down, scale(a, false))

#include "run.hpp"
