//! NVFP4 results: codes of e2m1 with a scale of ue4m3 for every 16 of a row.
//!
//! The kernel's source says how it quantizes, all in f32: the scale is the largest magnitude times norm / 6, rounded to
//! ue4m3; the values are multiplied by norm over the scale, at most the largest f32, and rounded to e2m1. The reciprocals
//! are approximate instructions, which the emulator rounds correctly unless it is asked not to.

use super::numbers::{e2m1, e4m3};

/// Values with a scale of their own.
pub const GROUP: usize = 16;
/// What the kernel multiplies by before it quantizes: no power of two, so that it rounds.
pub const NORM: f32 = 0.75;

/// The code of the nearest of ascending magnitudes, ties to even codes; beyond the last one the last one.
fn nearest(magnitude: f32, codes: u8, of: impl Fn(u8) -> f64) -> u8 {
    let distance = |code: u8| (f64::from(magnitude) - of(code)).abs();
    let order = |one: &u8, other: &u8| {
        distance(*one).total_cmp(&distance(*other)).then((one & 1).cmp(&(other & 1)))
    };
    (0..codes).min_by(order).unwrap_or(0)
}

/// ue4m3 of a magnitude. The last code is NaN.
pub fn scale_of(magnitude: f32) -> u8 {
    nearest(magnitude, 0x7F, value_of_scale)
}

pub fn value_of_scale(code: u8) -> f64 {
    e4m3(code) as f64 / 512.0
}

/// e2m1 of a number.
pub fn code_of(value: f32) -> u8 {
    let code = nearest(value.abs(), 8, |code| e2m1(code) as f64 / 2.0);
    code | u8::from(value.is_sign_negative()) << 3
}

/// The scale for a largest magnitude.
fn scale_for(largest: f32) -> u8 {
    scale_of(largest * (NORM * (1.0 / 6.0)))
}

/// What values are multiplied by that have this scale.
fn factor(scale: u8) -> f32 {
    (NORM * (1.0 / value_of_scale(scale) as f32)).min(f32::MAX)
}

/// Where the codes and scales of a result of this size are: bytes of the codes, then of all.
pub fn sizes(m: usize, n: usize) -> (usize, usize) {
    let codes = m * n / 2;
    (codes, codes + m.div_ceil(128) * n.div_ceil(4 * GROUP) * 512)
}

/// Says what is wrong with the codes and scales of a result. `value` gives what is quantized and how far off it may be.
pub fn check(
    d: &[u8],
    m: usize,
    n: usize,
    value: impl Fn(usize, usize) -> (f64, f64),
) -> Result<(), String> {
    let (codes, all) = sizes(m, n);
    if d.len() != all {
        return Err(format!("{} bytes of D and its scales, not {all}", d.len()));
    }
    let atoms = n.div_ceil(4 * GROUP);
    let (mut wrong, mut first) = (0, None);
    for row in 0..m {
        for group in 0..n / GROUP {
            // As CUTLASS stores scales: atoms of 128 rows and 4 groups.
            let atom = row / 128 * atoms + group / 4;
            let place = atom * 512 + row % 32 * 16 + row % 128 / 32 * 4 + group % 4;
            let scale = d[codes + place];
            let values: Vec<(f64, f64)> =
                (0..GROUP).map(|at| value(row, group * GROUP + at)).collect();
            let bound = |sign: f64| {
                let of = values.iter().map(|(value, off)| (value.abs() + sign * off).max(0.0));
                scale_for(of.fold(0.0, f64::max) as f32)
            };
            let mut problem = None;
            if !(bound(-1.0)..=bound(1.0)).contains(&scale) {
                problem =
                    Some(format!("scale {scale:#x}, not {:#x}..={:#x}", bound(-1.0), bound(1.0)));
            }
            for (at, (value, off)) in values.iter().enumerate() {
                let place = row * n + group * GROUP + at;
                let code = d[place / 2] >> (place % 2 * 4) & 15;
                let expected = |sign: f64| code_of((value + sign * off) as f32 * factor(scale));
                // A sum of zero may come with either sign.
                let zero = *value == 0.0 && *off == 0.0 && code & 7 == 0;
                let in_order =
                    e2m1(expected(-1.0)) <= e2m1(code) && e2m1(code) <= e2m1(expected(1.0));
                let right = if *off == 0.0 { code == expected(0.0) || zero } else { in_order };
                if !right && problem.is_none() {
                    problem = Some(format!("code {code:#x} of {value:e} with scale {scale:#x}"));
                }
            }
            if let Some(problem) = problem {
                wrong += 1;
                first.get_or_insert(format!("row {row}, group {group}: {problem}"));
            }
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(format!("{wrong} groups of 16 are wrong; {first}")),
    }
}
