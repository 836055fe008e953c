//! The formats against vectors of ml_dtypes, torch, compressed-tensors and ModelOpt, which
//! `scripts/golden_formats.py` wrote.

use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;
use nvfp4_dual_gemm::format::{BLOCK, e2m1, nibble, ue4m3};
use nvfp4_dual_gemm::{Element, Nvfp4Matrix, bf16, f16};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../data/", $name)).lines().map(|l| l.split(' ').collect::<Vec<_>>())
    };
}

fn hex(s: &str) -> u32 {
    u32::from_str_radix(s, 16).unwrap()
}

fn hexes(s: &str, digits: usize) -> Vec<u32> {
    s.as_bytes().chunks(digits).map(|d| hex(std::str::from_utf8(d).unwrap())).collect()
}

fn bytes(s: &str) -> Vec<u8> {
    hexes(s, 2).into_iter().map(|b| b as u8).collect()
}

/// Calls `check` for all 16-bit patterns of the runs `first last code`; gives their number.
fn each_of_runs(runs: impl Iterator<Item = Vec<&'static str>>, check: impl Fn(u16, u8)) -> usize {
    let mut count = 0;
    for run in runs {
        for bits in hex(run[0])..=hex(run[1]) {
            check(bits as u16, hex(run[2]) as u8);
            count += 1;
        }
    }
    count
}

#[test]
fn e2m1_of_every_f16_and_bf16() {
    let n = each_of_runs(data!("e2m1_of_f16.txt"), |bits, code| {
        assert_eq!(e2m1::encode(f16::from_bits(bits).to_f32()), code, "f16 {bits:#06x}");
    });
    assert_eq!(n, 2 * 0x7c00);
    let n = each_of_runs(data!("e2m1_of_bf16.txt"), |bits, code| {
        assert_eq!(e2m1::encode(bf16::from_bits(bits).to_f32()), code, "bf16 {bits:#06x}");
    });
    assert_eq!(n, 2 * 0x7f80);
    for v in [f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(e2m1::decode(e2m1::encode(v)), 6f32.copysign(v));
    }
}

#[test]
fn ue4m3_of_every_positive_f16_and_bf16() {
    let n = each_of_runs(data!("ue4m3_of_f16.txt"), |bits, byte| {
        assert_eq!(ue4m3::encode(f16::from_bits(bits).to_f32()), byte, "f16 {bits:#06x}");
    });
    assert_eq!(n, 0x7c00);
    let n = each_of_runs(data!("ue4m3_of_bf16.txt"), |bits, byte| {
        assert_eq!(ue4m3::encode(bf16::from_bits(bits).to_f32()), byte, "bf16 {bits:#06x}");
    });
    assert_eq!(n, 0x7f80);
    assert_eq!(ue4m3::encode(f32::INFINITY), 0x7e);
}

#[test]
fn f32_neighbors_of_ties() {
    for line in data!("e2m1_of_f32.txt") {
        let value = f32::from_bits(hex(line[0]));
        assert_eq!(u32::from(e2m1::encode(value)), hex(line[1]), "{value:e}");
    }
    for line in data!("ue4m3_of_f32.txt") {
        let value = f32::from_bits(hex(line[0]));
        assert_eq!(u32::from(ue4m3::encode(value)), hex(line[1]), "{value:e}");
    }
}

#[test]
fn value_of_every_scale_byte() {
    let mut count = 0;
    for line in data!("e4m3_values.txt") {
        let byte = hex(line[0]) as u8;
        let value = ue4m3::decode(byte);
        match line[1] {
            "nan" => assert!(value.is_nan(), "{byte:#04x}"),
            bits => assert_eq!(value.to_bits(), hex(bits), "{byte:#04x}"),
        }
        // Valid are the bytes of numbers without a sign bit.
        let valid = line[1] != "nan" && hex(line[1]) >> 31 == 0;
        assert_eq!(ue4m3::is_valid(byte), valid, "{byte:#04x}");
        assert_eq!(ue4m3::find_invalid(&[0, byte]).is_none(), valid, "{byte:#04x}");
        if valid {
            assert_eq!(ue4m3::times_512(byte) as f32, value * 512.0);
        }
        count += 1;
    }
    assert_eq!(count, 256);
}

#[test]
fn scale_layouts() {
    for line in data!("scale_layout.txt") {
        let [batch, rows, cols] = [0, 1, 2].map(|i| line[i].parse::<usize>().unwrap());
        let layout = ScaleLayout::new(batch, rows, cols * BLOCK).unwrap();
        let want = hexes(line[3], 4);
        assert_eq!(layout.swizzled_len(), want.len());
        // Places are numbered from 1 in 16 bits: one byte at a time.
        for shift in [0, 8] {
            let row_major: Vec<u8> =
                (1..=batch * rows * cols).map(|i| (i >> shift) as u8).collect();
            let want: Vec<u8> = want.iter().map(|i| (i >> shift) as u8).collect();
            assert_eq!(layout.swizzle(&row_major).unwrap(), want, "{batch} {rows} {cols}");
            assert_eq!(layout.unswizzle(&want).unwrap(), row_major, "{batch} {rows} {cols}");
        }
        for (offset, &number) in want.iter().enumerate() {
            let at = layout.coord(offset).unwrap();
            assert_eq!(layout.offset(at), Some(offset));
            let inside = at.row < rows && at.col < cols;
            let place = (at.batch * rows + at.row) * cols + at.col + 1;
            assert_eq!(number as usize, if inside { place } else { 0 });
        }
    }
}

struct Case {
    name: &'static str,
    dtype: &'static str,
    rows: usize,
    cols: usize,
    global: f32,
    values: Vec<u32>,
    codes: Vec<u8>,
    scales: Vec<u8>,
}

fn quantizer_cases(lines: impl Iterator<Item = Vec<&'static str>>) -> Vec<Case> {
    lines
        .map(|line| Case {
            name: line[0],
            dtype: line[1],
            rows: line[2].parse().unwrap(),
            cols: line[3].parse().unwrap(),
            global: f32::from_bits(hex(line[4])),
            values: hexes(line[5], if line[1] == "f32" { 8 } else { 4 }),
            codes: bytes(line[6]),
            scales: bytes(line[7]),
        })
        .collect()
}

impl Case {
    fn f32_values(&self) -> Vec<f32> {
        let widen = |&b: &u32| match self.dtype {
            "f32" => f32::from_bits(b),
            "f16" => f16::from_bits(b as u16).to_f32(),
            _ => bf16::from_bits(b as u16).to_f32(),
        };
        self.values.iter().map(widen).collect()
    }

    /// Quantizes the values in their own type.
    fn quantize(&self, with_global: bool) -> Nvfp4Matrix {
        fn run<T: Element>(case: &Case, values: Vec<T>, with_global: bool) -> Nvfp4Matrix {
            let (rows, cols) = (case.rows, case.cols);
            if with_global {
                Nvfp4Matrix::quantize_with_global(&values, 1, rows, cols, case.global).unwrap()
            } else {
                Nvfp4Matrix::quantize(&values, 1, rows, cols).unwrap()
            }
        }
        let bits = self.values.iter();
        match self.dtype {
            "f32" => run(self, bits.map(|&b| f32::from_bits(b)).collect(), with_global),
            "f16" => run(self, bits.map(|&b| f16::from_bits(b as u16)).collect(), with_global),
            _ => run(self, bits.map(|&b| bf16::from_bits(b as u16)).collect(), with_global),
        }
    }
}

#[test]
fn quantizer_agrees_with_torch() {
    let given = ["saturating", "coarse", "least", "greatest"];
    let cases = quantizer_cases(data!("quantize.txt"));
    assert!(cases.len() >= 20);
    for case in cases {
        let with_global = given.contains(&case.name);
        let q = case.quantize(with_global);
        let about = format!("{} {}", case.name, case.dtype);
        assert_eq!(q.global_scale().to_bits(), case.global.to_bits(), "{about}");
        assert_eq!(q.scales(), case.scales, "{about}");
        assert_eq!(q.codes(), case.codes, "{about}");
    }
}

/// Scales are the same; a code differs only where the quotient is a tie but for roundings, which
/// ModelOpt and compressed-tensors do elsewhere (see the script).
#[test]
fn quantizer_agrees_with_the_makers_of_checkpoints() {
    let modelopt = quantizer_cases(data!("quantize_modelopt.txt"));
    let compressed_tensors = quantizer_cases(data!("quantize_compressed_tensors.txt"));
    for case in modelopt.into_iter().chain(compressed_tensors) {
        let q = case.quantize(false);
        let about = format!("{} {}", case.name, case.dtype);
        assert_eq!(q.global_scale().to_bits(), case.global.to_bits(), "{about}");
        assert_eq!(q.scales(), case.scales, "{about}");
        let (ours, theirs) = (nibble::unpack(q.codes()), nibble::unpack(&case.codes));
        let mut differ = 0;
        for (i, x) in case.f32_values().iter().enumerate() {
            if ours[i] == theirs[i] {
                continue;
            }
            let scale = f64::from(ue4m3::decode(case.scales[i / BLOCK]));
            let quotient = (f64::from(*x) / (scale * f64::from(case.global))).abs();
            let ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
            assert!(
                ties.iter().any(|t| (quotient / t - 1.0).abs() < 2f64.powi(-21)),
                "{about} {i}"
            );
            differ += 1;
        }
        assert!(differ <= 2, "{about}: {differ} codes differ");
    }
}
