// Integers of all widths.
#include "program.hpp"

// Shifts of PTX give what is left when more bits than there are go out.
template <typename T>
BOTH T shift_left(T x, u32 by) {
    return by < 8 * sizeof(T) ? (T)(x << by) : (T)0;
}
template <typename T>
BOTH T shift_right(T x, u32 by) {
    return by < 8 * sizeof(T) ? (T)(x >> by) : (T)(x < 0 ? -1 : 0);
}

BOTH u32 shl32(u32 x, u32 by) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("shl.b32 %0, %1, %2;" : "=r"(d) : "r"(x), "r"(by));
    return d;
#else
    return shift_left<u32>(x, by);
#endif
}
BOTH u64 shl64(u64 x, u32 by) {
#ifdef __CUDA_ARCH__
    u64 d;
    asm("shl.b64 %0, %1, %2;" : "=l"(d) : "l"(x), "r"(by));
    return d;
#else
    return shift_left<u64>(x, by);
#endif
}
BOTH u16 shl16(u16 x, u32 by) {
#ifdef __CUDA_ARCH__
    u16 d;
    asm("shl.b16 %0, %1, %2;" : "=h"(d) : "h"(x), "r"(by));
    return d;
#else
    return shift_left<u16>(x, by);
#endif
}
BOTH s32 shr_s32(s32 x, u32 by) {
#ifdef __CUDA_ARCH__
    s32 d;
    asm("shr.s32 %0, %1, %2;" : "=r"(d) : "r"(x), "r"(by));
    return d;
#else
    return shift_right<s32>(x, by);
#endif
}
BOTH u32 shr_u32(u32 x, u32 by) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("shr.u32 %0, %1, %2;" : "=r"(d) : "r"(x), "r"(by));
    return d;
#else
    return shift_right<u32>(x, by);
#endif
}
BOTH s64 shr_s64(s64 x, u32 by) {
#ifdef __CUDA_ARCH__
    s64 d;
    asm("shr.s64 %0, %1, %2;" : "=l"(d) : "l"(x), "r"(by));
    return d;
#else
    return shift_right<s64>(x, by);
#endif
}
BOTH s16 shr_s16(s16 x, u32 by) {
#ifdef __CUDA_ARCH__
    s16 d;
    asm("shr.s16 %0, %1, %2;" : "=h"(d) : "h"(x), "r"(by));
    return d;
#else
    return shift_right<s16>(x, by);
#endif
}

// bfe and bfi as the manual words them, bit by bit.
BOTH u64 extract(u64 a, u32 position, u32 length, int bits, bool is_signed) {
    position &= 255, length &= 255;
    int top = (int)position + (int)length - 1;
    if (top > bits - 1) top = bits - 1;
    u64 sign = is_signed && length != 0 ? a >> top & 1 : 0;
    u64 d = 0;
    for (int i = 0; i < bits; i++) {
        bool inside = i < (int)length && position + i < (u32)bits;
        d |= (inside ? a >> (position + i) & 1 : sign) << i;
    }
    return d;
}
BOTH u64 insert(u64 a, u64 b, u32 position, u32 length, int bits) {
    position &= 255, length &= 255;
    for (u32 i = 0; i < length && position + i < (u32)bits; i++) {
        u64 bit = (u64)1 << (position + i);
        b = (a >> i & 1) != 0 ? b | bit : b & ~bit;
    }
    return b;
}
BOTH u32 bfe_u32(u32 a, u32 b, u32 c) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("bfe.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    return extract(a, b, c, 32, false);
#endif
}
BOTH u32 bfe_s32(u32 a, u32 b, u32 c) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("bfe.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    return extract(a, b, c, 32, true);
#endif
}
BOTH u64 bfe_s64(u64 a, u32 b, u32 c) {
#ifdef __CUDA_ARCH__
    u64 d;
    asm("bfe.s64 %0, %1, %2, %3;" : "=l"(d) : "l"(a), "r"(b), "r"(c));
    return d;
#else
    return extract(a, b, c, 64, true);
#endif
}
BOTH u32 bfi32(u32 a, u32 b, u32 c, u32 e) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "r"(e));
    return d;
#else
    return insert(a, b, c, e, 32);
#endif
}
BOTH u64 bfi64(u64 a, u64 b, u32 c, u32 e) {
#ifdef __CUDA_ARCH__
    u64 d;
    asm("bfi.b64 %0, %1, %2, %3, %4;" : "=l"(d) : "l"(a), "l"(b), "r"(c), "r"(e));
    return d;
#else
    return insert(a, b, c, e, 64);
#endif
}
BOTH u32 bfind_u32(u32 a) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("bfind.u32 %0, %1;" : "=r"(d) : "r"(a));
    return d;
#else
    for (int i = 31; i >= 0; i--) {
        if (a >> i & 1) return i;
    }
    return ~0u;
#endif
}
BOTH u32 bfind_s32(s32 a) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("bfind.s32 %0, %1;" : "=r"(d) : "r"(a));
    return d;
#else
    return bfind_u32(a < 0 ? ~a : a);
#endif
}
BOTH u32 bfind_shift_u64(u64 a) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("bfind.shiftamt.u64 %0, %1;" : "=r"(d) : "l"(a));
    return d;
#else
    for (u32 i = 0; i < 64; i++) {
        if (a << i >> 63) return i;
    }
    return ~0u;
#endif
}

BOTH u32 population(u64 x) {
    u32 count = 0;
    for (int i = 0; i < 64; i++) count += x >> i & 1;
    return count;
}
BOTH u32 leading(u64 x, int bits) {
    u32 count = 0;
    for (int i = bits - 1; i >= 0 && !(x >> i & 1); i--) count++;
    return count;
}
BOTH u64 reversed(u64 x, int bits) {
    u64 d = 0;
    for (int i = 0; i < bits; i++) d |= (x >> i & 1) << (bits - 1 - i);
    return d;
}
BOTH u32 first_set(u64 x) {
    for (int i = 0; i < 64; i++) {
        if (x >> i & 1) return i + 1;
    }
    return 0;
}
BOTH u32 permuted(u32 a, u32 b, u32 selector) {
    u64 both = (u64)b << 32 | a;
    u32 d = 0;
    for (int i = 0; i < 4; i++) {
        u32 nibble = selector >> (4 * i) & 15;
        u32 byte = both >> (8 * (nibble & 7)) & 255;
        if (nibble & 8) byte = byte & 128 ? 255 : 0;
        d |= byte << (8 * i);
    }
    return d;
}
BOTH u32 permute(u32 a, u32 b, u32 selector) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
    return d;
#else
    return permuted(a, b, selector);
#endif
}
BOTH u64 high_u64(u64 a, u64 b) {
    u64 low = (a & ~0u) * (b & ~0u), middle = (a >> 32) * (b & ~0u) + (low >> 32);
    u64 other = (a & ~0u) * (b >> 32) + (middle & ~0u);
    return (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
}
BOTH u64 high_s64(s64 a, s64 b) {
    return high_u64(a, b) - (a < 0 ? b : 0) - (b < 0 ? a : 0);
}
BOTH u32 saturated(s64 sum) { return (u32)(sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum); }
BOTH u32 add_sat(s32 a, s32 b) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("add.sat.s32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    return saturated((s64)a + b);
#endif
}
BOTH u32 sub_sat(s32 a, s32 b) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("sub.sat.s32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    return saturated((s64)a - b);
#endif
}
// 128 bits in two halves, by carries.
BOTH u64 carries(u64 a, u64 b, u64 c) {
#ifdef __CUDA_ARCH__
    u32 x, y, z;
    asm("{ add.cc.u32 %0, %3, %5; addc.cc.u32 %1, %4, %6; addc.u32 %2, %7, 0; }"
        : "=&r"(x), "=&r"(y), "=r"(z)
        : "r"((u32)a), "r"((u32)(a >> 32)), "r"((u32)b), "r"((u32)(b >> 32)), "r"((u32)c));
    return ((u64)y << 32 | x) ^ (u64)z << 16;
#else
    u64 sum = a + b;
    return sum ^ (u64)(u32)((u32)c + (sum < a)) << 16;
#endif
}
BOTH u64 borrows(u64 a, u64 b, u64 c) {
#ifdef __CUDA_ARCH__
    u32 x, y, z;
    asm("{ sub.cc.u32 %0, %3, %5; subc.cc.u32 %1, %4, %6; subc.u32 %2, %7, 0; }"
        : "=&r"(x), "=&r"(y), "=r"(z)
        : "r"((u32)a), "r"((u32)(a >> 32)), "r"((u32)b), "r"((u32)(b >> 32)), "r"((u32)c));
    return ((u64)y << 32 | x) ^ (u64)z << 16;
#else
    return (a - b) ^ (u64)(u32)((u32)c - (a < b)) << 16;
#endif
}
BOTH u32 funnel_left(u32 low, u32 high, u32 by) {
    u64 both = (u64)high << 32 | low;
    return both << (by & 31) >> 32;
}
BOTH u32 funnel_right_clamped(u32 low, u32 high, u32 by) {
    u64 both = (u64)high << 32 | low;
    return both >> (by < 32 ? by : 32);
}
BOTH u32 logic(u32 a, u32 b, u32 c) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("lop3.b32 %0, %1, %2, %3, 0x1D;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    u32 d = 0;
    for (int i = 0; i < 32; i++) {
        u32 index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
        d |= (0x1Du >> index & 1) << i;
    }
    return d;
#endif
}
BOTH u32 dot_product(u32 a, u32 b, u32 c) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    for (int i = 0; i < 4; i++) c += (s8)(a >> (8 * i)) * (s8)(b >> (8 * i));
    return c;
#endif
}
BOTH u32 byte_sad(u32 a, u32 b, u32 c) {
#ifdef __CUDA_ARCH__
    return __sad((int)a, (int)b, c);
#else
    s64 difference = (s64)(s32)a - (s32)b;
    return c + (u32)(difference < 0 ? -difference : difference);
#endif
}
BOTH u32 mul24_high(u32 a, u32 b) {
#ifdef __CUDA_ARCH__
    u32 d;
    asm("mul24.hi.u32 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    return (u64)(a & 0xFFFFFF) * (b & 0xFFFFFF) >> 16;
#endif
}
BOTH u64 wide16(s16 a, s16 b) { return (u64)(s64)((s32)a * (s32)b); }

template <typename T>
BOTH T safe(T b) {
    return b == 0 ? (T)7 : b;
}
// The one quotient that does not fit is undefined in C++.
template <typename T>
BOTH T quotient(T a, T b) {
    b = safe(b);
    return b == (T)-1 && a < 0 ? (T)3 : (T)(a / b);
}
template <typename T>
BOTH T remainder_of(T a, T b) {
    b = safe(b);
    return b == (T)-1 && a < 0 ? (T)3 : (T)(a % b);
}

#define OPERATIONS(X) \
    X(add8, (u8)(a + b)) X(add16, (u16)((u16)a + (u16)b)) X(add32, (u32)a + (u32)b) X(add64, a + b) \
    X(sub16, (u16)((u16)a - (u16)b)) X(sub32, (u32)a - (u32)b) X(sub64, a - b) \
    X(mul16, (u16)((u32)(u16)a * (u16)b)) X(mul32, (u32)a * (u32)b) X(mul64, a * b) \
    X(wide_u32, (u64)(u32)a * (u32)b) X(wide_s32, (s64)(s32)a * (s32)b) X(wide_s16, wide16(a, b)) \
    X(hi_u32, CHOOSE(__umulhi((u32)a, (u32)b), (u64)(u32)a * (u32)b >> 32)) \
    X(hi_s32, (u32)CHOOSE(__mulhi((s32)a, (s32)b), (s64)(s32)a * (s32)b >> 32)) \
    X(hi_u64, CHOOSE(__umul64hi(a, b), high_u64(a, b))) \
    X(hi_s64, CHOOSE((u64)__mul64hi(a, b), high_s64(a, b))) \
    X(mad32, (u32)a * (u32)b + (u32)c) X(mad64, a * b + c) X(mad_wide, (s64)(s32)a * (s32)b + (s64)c) \
    X(mad16, (u16)((u16)a * (u32)(u16)b + (u16)c)) X(mul24_hi, mul24_high(a, b)) \
    X(div_u32, (u32)a / safe((u32)b)) X(div_s32, (u32)quotient<s32>(a, b)) \
    X(div_u64, a / safe(b)) X(div_s64, quotient<s64>(a, b)) X(div_u16, (u16)a / safe((u16)b)) \
    X(rem_u32, (u32)a % safe((u32)b)) X(rem_s32, (u32)remainder_of<s32>(a, b)) \
    X(rem_u64, a % safe(b)) X(rem_s64, remainder_of<s64>(a, b)) X(rem_s16, (u16)remainder_of<s16>(a, b)) \
    X(shl_16, shl16(a, b)) X(shl_32, shl32(a, b)) X(shl_64, shl64(a, b)) \
    X(shl_32_small, shl32(a, b & 63)) X(shl_64_small, shl64(a, b & 127)) \
    X(shr_s_16, (u16)shr_s16(a, b & 31)) X(shr_s_32, (u32)shr_s32(a, b & 63)) X(shr_u_32, shr_u32(a, b & 63)) \
    X(shr_s_64, shr_s64(a, b & 127)) X(shr_s_32_any, (u32)shr_s32(a, b)) \
    X(bfe_u, bfe_u32(a, b, c)) X(bfe_s, bfe_s32(a, b, c)) X(bfe_u_small, bfe_u32(a, b & 63, c & 63)) \
    X(bfe_s_small, bfe_s32(a, b & 63, c & 63)) X(bfe_s_64, bfe_s64(a, b & 127, c & 127)) \
    X(bfi_32, bfi32(a, b, c & 63, c >> 8 & 63)) X(bfi_64, bfi64(a, b, c & 127, c >> 8 & 127)) \
    X(bfi_any, bfi32(a, b, c, c >> 16)) \
    X(bfind_u, bfind_u32(a)) X(bfind_s, bfind_s32(a)) X(bfind_shift, bfind_shift_u64(a)) \
    X(popc32, CHOOSE(__popc((u32)a), population((u32)a))) X(popc64, CHOOSE(__popcll(a), population(a))) \
    X(clz32, CHOOSE(__clz((u32)a), leading((u32)a, 32))) X(clz64, CHOOSE(__clzll(a), leading(a, 64))) \
    X(brev32, CHOOSE(__brev((u32)a), reversed((u32)a, 32))) X(brev64, CHOOSE(__brevll(a), reversed(a, 64))) \
    X(ffs32, CHOOSE(__ffs((u32)a), first_set((u32)a))) X(ffs64, CHOOSE(__ffsll(a), first_set(a))) \
    X(prmt, permute(a, b, c)) X(lop3, logic(a, b, c)) X(sad, byte_sad(a, b, c)) \
    X(saturated_sum, add_sat(a, b)) X(saturated_difference, sub_sat(a, b)) \
    X(carry, carries(a, b, c)) X(borrow, borrows(a, b, c)) X(dp4a, dot_product(a, b, c)) \
    X(shf_l, CHOOSE(__funnelshift_l((u32)a, (u32)b, (u32)c), funnel_left(a, b, c))) \
    X(shf_rc, CHOOSE(__funnelshift_rc((u32)a, (u32)b, (u32)c), funnel_right_clamped(a, b, c))) \
    X(and_or_xor, (a & b) | (b ^ c)) X(not32, ~(u32)a) X(neg16, (u16)-(s16)a) X(neg64, -a) \
    X(abs32, (s32)a < 0 ? 0u - (u32)a : (u32)a) X(min_s32, (u32)((s32)a < (s32)b ? (s32)a : (s32)b)) \
    X(max_u64, a > b ? a : b) X(min_s64, (s64)a < (s64)b ? a : b) X(max_s16, (u16)((s16)a > (s16)b ? a : b)) \
    X(lt_s8, (s8)a < (s8)b) X(le_u16, (u16)a <= (u16)b) X(gt_s32, (s32)a > (s32)b) X(ge_u32, (u32)a >= (u32)b) \
    X(lt_s64, (s64)a < (s64)b) X(eq64, a == b) X(ne16, (u16)a != (u16)b) \
    X(both, ((s32)a < (s32)b && (u32)b < (u32)c) + 2 * ((s64)a < 0 || b == c)) \
    X(widen_s8, (s64)(s8)a) X(widen_u8, (u8)a) X(widen_s16, (u32)(s32)(s16)a) X(widen_s32, (s64)(s32)a) \
    X(narrow, (u64)(u8)(a >> 8) << 32 | (u16)(b >> 16)) \
    X(select, (s32)c < 0 ? (u32)a : (u32)b)

#include "run.hpp"
