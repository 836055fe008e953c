//! The kernels for AVX2 and AVX-512.

use half::{bf16, f16};

/// Compiles the portable source of kernels for an instruction set.
macro_rules! recompile {
    ($features:literal: $($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[target_feature(enable = $features)]
            pub(in super::super) fn $name($($arg: $type),*) $(-> $result)? {
                super::super::portable::$name($($arg),*)
            }
        )*
    };
}

pub(super) mod avx2 {
    use super::*;

    recompile! { "avx2,bmi2":
        pack(codes: &[u8], packed: &mut [u8], stream: bool) -> bool;
        unpack(packed: &[u8], codes: &mut [u8], stream: bool);
        max_byte(bytes: &[u8]) -> u8;
        amax_bits_32(values: &[f32]) -> u32;
        amax_bits_f16(values: &[f16]) -> u16;
        amax_bits_bf16(values: &[bf16]) -> u16;
        quantize_f32(values: &[f32], global: f32, codes: &mut [u8], scales: &mut [u8]);
        quantize_f16(values: &[f16], global: f32, codes: &mut [u8], scales: &mut [u8]);
        quantize_bf16(values: &[bf16], global: f32, codes: &mut [u8], scales: &mut [u8]);
        dequantize_f32(codes: &[u8], scales: &[u8], global: f32, out: &mut [f32], stream: bool);
        dequantize_f16(codes: &[u8], scales: &[u8], global: f32, out: &mut [f16], stream: bool);
        dequantize_bf16(codes: &[u8], scales: &[u8], global: f32, out: &mut [bf16], stream: bool);
        swizzle_row_tile(rows: &[u8], cols: usize, tiles: &mut [u8], stream: bool);
        unswizzle_row_tile(tiles: &[u8], cols: usize, rows: &mut [u8], stream: bool);
    }
}

pub(super) mod avx512 {
    use super::*;

    pub(in super::super) use super::super::avx512::{
        dequantize_bf16, dequantize_f16, dequantize_f32, pack, quantize_bf16, quantize_f16,
        quantize_f32, unpack,
    };
    pub(in super::super) use super::super::swizzle::{swizzle_row_tile, unswizzle_row_tile};

    recompile! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi2":
        max_byte(bytes: &[u8]) -> u8;
        amax_bits_32(values: &[f32]) -> u32;
        amax_bits_f16(values: &[f16]) -> u16;
        amax_bits_bf16(values: &[bf16]) -> u16;
    }
}
