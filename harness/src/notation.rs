//! Sizes, GLUs and instruction sets as they are written on a command line.

use nvfp4_dual_gemm::Isa;
use nvfp4_dual_gemm::format::BLOCK;
use nvfp4_dual_gemm::{GemmShape, Glu};

/// `MxNxK` or `MxNxKxL`.
pub fn shape(text: &str) -> Result<GemmShape, String> {
    let form = "expected MxNxK or MxNxKxL, such as 256x4096x7168";
    let parts: Vec<&str> = text.split(['x', 'X', '×']).map(str::trim).collect();
    if !(3..=4).contains(&parts.len()) {
        return Err(form.to_owned());
    }
    let mut sizes = [1usize; 4];
    for ((size, part), name) in sizes.iter_mut().zip(&parts).zip(["M", "N", "K", "L"]) {
        *size = part.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
            std::num::IntErrorKind::PosOverflow => format!("{name} = {part} is too large"),
            _ => format!("{name} is {part:?}, which is no whole number; {form}"),
        })?;
        // No tokens are a step like any other; no weights are a mistake.
        if *size == 0 && name != "M" {
            return Err(format!("{name} must not be 0"));
        }
    }
    let [m, n, k, batch] = sizes;
    if !k.is_multiple_of(BLOCK) {
        let below = k / BLOCK * BLOCK;
        let near = match below.checked_add(BLOCK) {
            Some(above) if below > 0 => format!("{below} and {above} are"),
            _ => format!("{BLOCK} is"),
        };
        return Err(format!("K = {k} is no multiple of {BLOCK}, {near}"));
    }
    Ok(GemmShape { m, n, k, batch })
}

/// The same notation back: `256x4096x7168`, and `xL` only for batches.
pub fn shape_text(problem: &GemmShape) -> String {
    let GemmShape { m, n, k, batch } = *problem;
    if batch == 1 { format!("{m}x{n}x{k}") } else { format!("{m}x{n}x{k}x{batch}") }
}

/// `swiglu`, `gpt-oss`, `clamped:LIMIT,SLOPE,OFFSET`, `geglu-tanh`.
pub fn glu(text: &str) -> Result<Glu, String> {
    let form = "expected swiglu, gpt-oss, geglu-tanh or clamped:LIMIT,SLOPE,OFFSET";
    let glu = match text {
        "swiglu" => Glu::Swiglu,
        "gpt-oss" => Glu::GPT_OSS,
        "geglu-tanh" => Glu::GegluTanh,
        _ => {
            let list = text.strip_prefix("clamped:").ok_or(form)?;
            let numbers: Vec<f32> = list
                .split(',')
                .map(|part| part.trim().parse().map_err(|_| format!("{part:?} is no number")))
                .collect::<Result<_, _>>()?;
            let [limit, slope, offset] = numbers[..] else {
                return Err(format!("clamped takes 3 numbers, not {}", numbers.len()));
            };
            Glu::ClampedSwiglu { limit, slope, offset }
        }
    };
    glu.validate().map_err(|error| error.to_string())?;
    Ok(glu)
}

/// The same notation back.
pub fn glu_text(glu: &Glu) -> String {
    match *glu {
        Glu::Swiglu => "swiglu".to_owned(),
        Glu::GegluTanh => "geglu-tanh".to_owned(),
        glu if glu == Glu::GPT_OSS => "gpt-oss".to_owned(),
        Glu::ClampedSwiglu { limit, slope, offset } => {
            format!("clamped:{limit},{slope},{offset}")
        }
        _ => format!("{glu:?}"),
    }
}

/// Instruction sets to go through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IsaArg {
    /// Each one that the machine has.
    All,
    /// This one, or an error.
    One(Isa),
}

/// `all`, or the name of one.
pub fn isa(text: &str) -> Result<IsaArg, String> {
    match text {
        "all" => Ok(IsaArg::All),
        _ => text.parse().map(IsaArg::One).map_err(|_| {
            format!("expected {} or all", Isa::ALL.map(|isa| isa.to_string()).join(", "))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_go_there_and_back() {
        for text in ["1x1x16", "256x4096x7168", "3x5x32x7", "0x96x64", "0x3x16x2"] {
            assert_eq!(shape_text(&shape(text).unwrap()), text);
        }
        assert_eq!(shape("2X3×16").unwrap(), GemmShape { m: 2, n: 3, k: 16, batch: 1 });
    }

    #[test]
    fn bad_shapes_say_what_is_wrong() {
        for (text, part) in [
            ("", "expected MxNxK"),
            ("256x4096", "expected MxNxK"),
            ("1x2x16x1x1", "expected MxNxK"),
            ("axbxc", "M is \"a\""),
            ("1x-2x16", "N is \"-2\""),
            ("1x0x16", "N must not be 0"),
            ("1x1x0", "K must not be 0"),
            ("1x1x16x0", "L must not be 0"),
            ("1x1x100", "96 and 112 are"),
            ("1x1x7", "16 is"),
            ("1x1x18446744073709551616", "too large"),
            ("1x1x18446744073709551615", "no multiple"),
        ] {
            let error = shape(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn gates_go_there_and_back() {
        for text in ["swiglu", "gpt-oss", "geglu-tanh", "clamped:3,1.5,-0.5"] {
            assert_eq!(glu_text(&glu(text).unwrap()), text);
        }
        assert_eq!(glu("clamped:7,1.702,1").unwrap(), Glu::GPT_OSS);
        for text in ["", "relu", "clamped:", "clamped:1,2", "clamped:0,1,1", "clamped:1,nan,1"] {
            assert!(glu(text).is_err(), "{text}");
        }
    }
}
