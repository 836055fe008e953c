// Single and double precision, with all ways of rounding, and conversions. Not-a-number is one value here.
#include <cfenv>
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
BOTH u64 bits(float x) {
    u32 d;
    if (x != x) return 0x7FFFFFFF;
    memcpy(&d, &x, 4);
    return d;
}
BOTH u64 bits(double x) {
    u64 d;
    if (x != x) return 0x7FFFFFFFFFFFFFFF;
    memcpy(&d, &x, 8);
    return d;
}

#ifdef __CUDA_ARCH__
#define ROUNDED(mode, device, host) (device)
#else
// The host rounds as asked for while it evaluates one expression; volatile keeps that there.
template <typename F>
inline auto rounded(int mode, F work) -> decltype(work()) {
    fesetround(mode);
    volatile auto result = work();
    fesetround(FE_TONEAREST);
    return result;
}
#define ROUNDED(mode, device, host) \
    (rounded(mode, [&] { volatile auto x = A; volatile auto y = B; volatile auto z = C; (void)x, (void)y, (void)z; return host; }))
#endif
#define A single(a)
#define B single(b)
#define C single(c)

#ifdef __CUDA_ARCH__
#define ASM1(text, x) ({ float d_; asm(text " %0, %1;" : "=f"(d_) : "f"(x)); d_; })
#define ASM2(text, x, y) ({ float d_; asm(text " %0, %1, %2;" : "=f"(d_) : "f"(x), "f"(y)); d_; })
#define ASM3(text, x, y, z) \
    ({ float d_; asm(text " %0, %1, %2, %3;" : "=f"(d_) : "f"(x), "f"(y), "f"(z)); d_; })
#endif

// Subnormal numbers become zeros.
BOTH float flushed(float x) { return fabsf(x) < 1.17549435e-38f ? copysignf(0.f, x) : x; }
BOTH float unit(float x) { return !(x > 0) ? 0.f : x > 1 ? 1.f : x; }

BOTH float add_ftz(float x, float y) {
#ifdef __CUDA_ARCH__
    return ASM2("add.ftz.f32", x, y);
#else
    return flushed(flushed(x) + flushed(y));
#endif
}
BOTH float mul_ftz(float x, float y) {
#ifdef __CUDA_ARCH__
    return ASM2("mul.ftz.f32", x, y);
#else
    return flushed(flushed(x) * flushed(y));
#endif
}
BOTH float fma_sat(float x, float y, float z) {
#ifdef __CUDA_ARCH__
    return ASM3("fma.rn.sat.f32", x, y, z);
#else
    return unit(fmaf(x, y, z));
#endif
}
BOTH float add_sat(float x, float y) {
#ifdef __CUDA_ARCH__
    return ASM2("add.sat.f32", x, y);
#else
    return unit(x + y);
#endif
}
// Zeros are ordered by their signs; a number wins over what is none.
BOTH float least(float x, float y) {
#ifdef __CUDA_ARCH__
    return ASM2("min.f32", x, y);
#else
    return x != x ? y : y != y ? x : x < y || x == y && std::signbit(x) ? x : y;
#endif
}
BOTH float greatest(float x, float y) {
#ifdef __CUDA_ARCH__
    return ASM2("max.f32", x, y);
#else
    return x != x ? y : y != y ? x : x > y || x == y && !std::signbit(x) ? x : y;
#endif
}
BOTH float greatest_nan(float x, float y) {
#ifdef __CUDA_ARCH__
    return ASM2("max.NaN.f32", x, y);
#else
    return x != x ? x : y != y ? y : greatest(x, y);
#endif
}
BOTH float exp2_fast(float x) {
#ifdef __CUDA_ARCH__
    return ASM1("ex2.approx.ftz.f32", x);
#else
    return flushed((float)exp2((double)flushed(x)));
#endif
}
BOTH float inverse_fast(float x) {
#ifdef __CUDA_ARCH__
    return ASM1("rcp.approx.ftz.f32", x);
#else
    return flushed((float)(1.0 / (double)flushed(x)));
#endif
}

// To an integer, saturated. PTX ISA, cvt: not-a-number becomes 0 from 32 bits to 32 bits, else the top bit.
template <typename I>
BOTH I saturating(double x, double low, double high, I least, I most, I none) {
    return x != x ? none : x <= low ? least : x >= high ? most : (I)x;
}
BOTH u64 to_s32(double x) { return (u32)saturating<s32>(x, -2147483648., 2147483647., INT32_MIN, INT32_MAX, 0); }
BOTH u64 to_u32(double x) { return saturating<u32>(x, 0, 4294967295., 0, UINT32_MAX, 0); }
BOTH u64 to_s64(double x) {
    return saturating<s64>(x, -9223372036854775808., 9223372036854775808., INT64_MIN, INT64_MAX, INT64_MIN);
}
BOTH u64 to_u64(double x) {
    return saturating<u64>(x, 0, 18446744073709551616., 0, UINT64_MAX, (u64)1 << 63);
}
BOTH u64 to_s64_f32(float x) { return CHOOSE((u64)__float2ll_rn(x), to_s64(nearbyint((double)x))); }

#define OPERATIONS(X) \
    X(add_rn, bits(ROUNDED(FE_TONEAREST, __fadd_rn(A, B), x + y))) \
    X(add_rz, bits(ROUNDED(FE_TOWARDZERO, __fadd_rz(A, B), x + y))) \
    X(add_ru, bits(ROUNDED(FE_UPWARD, __fadd_ru(A, B), x + y))) \
    X(add_rd, bits(ROUNDED(FE_DOWNWARD, __fadd_rd(A, B), x + y))) \
    X(sub_rn, bits(ROUNDED(FE_TONEAREST, __fsub_rn(A, B), x - y))) \
    X(sub_rz, bits(ROUNDED(FE_TOWARDZERO, __fsub_rz(A, B), x - y))) \
    X(mul_rn, bits(ROUNDED(FE_TONEAREST, __fmul_rn(A, B), x * y))) \
    X(mul_rz, bits(ROUNDED(FE_TOWARDZERO, __fmul_rz(A, B), x * y))) \
    X(mul_ru, bits(ROUNDED(FE_UPWARD, __fmul_ru(A, B), x * y))) \
    X(mul_rd, bits(ROUNDED(FE_DOWNWARD, __fmul_rd(A, B), x * y))) \
    X(fma_rn, bits(ROUNDED(FE_TONEAREST, __fmaf_rn(A, B, C), __builtin_fmaf(x, y, z)))) \
    X(fma_rz, bits(ROUNDED(FE_TOWARDZERO, __fmaf_rz(A, B, C), __builtin_fmaf(x, y, z)))) \
    X(fma_ru, bits(ROUNDED(FE_UPWARD, __fmaf_ru(A, B, C), __builtin_fmaf(x, y, z)))) \
    X(fma_rd, bits(ROUNDED(FE_DOWNWARD, __fmaf_rd(A, B, C), __builtin_fmaf(x, y, z)))) \
    X(div_rn, bits(ROUNDED(FE_TONEAREST, __fdiv_rn(A, B), x / y))) \
    X(div_rz, bits(ROUNDED(FE_TOWARDZERO, __fdiv_rz(A, B), x / y))) \
    X(div_ru, bits(ROUNDED(FE_UPWARD, __fdiv_ru(A, B), x / y))) \
    X(rcp_rn, bits(ROUNDED(FE_TONEAREST, __frcp_rn(A), 1.f / x))) \
    X(rcp_rd, bits(ROUNDED(FE_DOWNWARD, __frcp_rd(A), 1.f / x))) \
    X(sqrt_rn, bits(ROUNDED(FE_TONEAREST, __fsqrt_rn(A), __builtin_sqrtf(x)))) \
    X(sqrt_ru, bits(ROUNDED(FE_UPWARD, __fsqrt_ru(A), __builtin_sqrtf(x)))) \
    X(sum_ftz, bits(add_ftz(A, B))) X(product_ftz, bits(mul_ftz(A, B))) \
    X(fma_saturated, bits(fma_sat(A, B, C))) X(sum_saturated, bits(add_sat(A, B))) \
    X(minimum, bits(least(A, B))) X(maximum, bits(greatest(A, B))) X(maximum_nan, bits(greatest_nan(A, B))) \
    X(exponential, bits(exp2_fast(A))) X(reciprocal, bits(inverse_fast(A))) \
    X(absolute, bits(fabsf(A))) X(negative, bits(-A)) X(sign, bits(copysignf(A, B))) \
    X(less, A < B) X(less_or_equal, A <= B) X(equal, A == B) X(unequal, A != B) X(greater, A > B) \
    X(unordered, A != A || B != B) X(not_less, !(A < B)) X(chosen, bits(A > B ? A : C)) \
    X(add_rn_f64, bits(CHOOSE(__dadd_rn(full(a), full(b)), full(a) + full(b)))) \
    X(mul_rn_f64, bits(CHOOSE(__dmul_rn(full(a), full(b)), full(a) * full(b)))) \
    X(fma_rn_f64, bits(CHOOSE(__fma_rn(full(a), full(b), full(c)), fma(full(a), full(b), full(c))))) \
    X(div_rn_f64, bits(CHOOSE(__ddiv_rn(full(a), full(b)), full(a) / full(b)))) \
    X(sqrt_rn_f64, bits(CHOOSE(__dsqrt_rn(full(a)), sqrt(full(a))))) \
    X(less_f64, full(a) < full(b)) X(negative_f64, bits(-full(a))) \
    X(widened, bits((double)A)) X(narrowed_rn, bits(CHOOSE(__double2float_rn(full(a)), (float)full(a)))) \
    X(narrowed_rz, bits(ROUNDED(FE_TOWARDZERO, __double2float_rz(full(a)), (float)full(a)))) \
    X(narrowed_ru, bits(ROUNDED(FE_UPWARD, __double2float_ru(full(a)), (float)full(a)))) \
    X(from_s32, bits((float)(s32)a)) X(from_u64, bits((float)a)) X(from_s64, bits((float)(s64)a)) \
    X(from_s64_rz, bits(ROUNDED(FE_TOWARDZERO, __ll2float_rz(a), (float)(s64)a))) \
    X(from_u32_rd, bits(ROUNDED(FE_DOWNWARD, __uint2float_rd(a), (float)(u32)a))) \
    X(from_s64_f64, bits((double)(s64)a)) X(from_u64_f64, bits((double)a)) X(from_s8, bits((float)(s8)a)) \
    X(to_s32_rz, CHOOSE((u32)__float2int_rz(A), to_s32(trunc(A)))) \
    X(to_s32_rn, CHOOSE((u32)__float2int_rn(A), to_s32(nearbyint(A)))) \
    X(to_s32_ru, CHOOSE((u32)__float2int_ru(A), to_s32(ceil(A)))) \
    X(to_s32_rd, CHOOSE((u32)__float2int_rd(A), to_s32(floor(A)))) \
    X(to_u32_rz, CHOOSE(__float2uint_rz(A), to_u32(trunc(A)))) \
    X(to_s32_f64, CHOOSE((u32)__double2int_rn(full(a)), full(a) != full(a) ? (u64)1 << 31 : to_s32(nearbyint(full(a))))) \
    X(to_s64_rn, to_s64_f32(A)) \
    X(to_u64_f64, CHOOSE(__double2ull_rz(full(a)), to_u64(trunc(full(a))))) \
    X(to_s64_f64, CHOOSE((u64)__double2ll_rd(full(a)), to_s64(floor(full(a))))) \
    X(whole_rn, bits(CHOOSE(rintf(A), nearbyintf(A)))) X(whole_rz, bits(truncf(A))) \
    X(whole_ru, bits(ceilf(A))) X(whole_rd, bits(floorf(A))) X(whole_f64, bits(CHOOSE(rint(full(a)), nearbyint(full(a)))))

#include "run.hpp"
