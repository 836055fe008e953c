//! Instruction descriptors of tcgen05.mma (PTX ISA, "Instruction descriptor", tables 42 to 44; CUTLASS,
//! `InstrDescriptor` and `InstrDescriptorBlockScaled` of `cute/arch/mma_sm100_desc.hpp`).

use super::numbers::{Format, ScaleFormat};
use super::rounding::Output;
use crate::fault::{Fault, FaultKind, Result};

/// `.kind::…`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// f16 and bf16.
    F16,
    /// tf32
    TF32,
    /// 4, 6 and 8 bits.
    F8F6F4,
    /// Integers.
    I8,
    /// 4, 6 and 8 bits with a UE8M0 scale factor for 32.
    MXF8F6F4,
    /// 4 bits with a UE8M0 scale factor for 32.
    MXF4,
    /// 4 bits with a scale factor for 16 or 32.
    MXF4NVF4,
}

impl Kind {
    /// As in PTX.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::TF32 => "tf32",
            Self::F8F6F4 => "f8f6f4",
            Self::I8 => "i8",
            Self::MXF8F6F4 => "mxf8f6f4",
            Self::MXF4 => "mxf4",
            Self::MXF4NVF4 => "mxf4nvf4",
        }
    }

    /// Whether `.block_scale` goes with it.
    pub fn is_scaled(self) -> bool {
        matches!(self, Self::MXF8F6F4 | Self::MXF4 | Self::MXF4NVF4)
    }

    /// Elements of K.
    pub fn k(self) -> u32 {
        match self {
            Self::F16 => 16,
            Self::TF32 => 8,
            Self::F8F6F4 | Self::I8 | Self::MXF8F6F4 => 32,
            Self::MXF4 | Self::MXF4NVF4 => 64,
        }
    }
}

/// Scale factors of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleSetup {
    /// How they are written.
    pub format: ScaleFormat,
    /// For each row or column: 4 (`.scale_vec::4X`), 2 or 1.
    pub count: u32,
    /// Byte of the cell in which those of A begin.
    pub id_a: u32,
    /// Byte of the cell in which those of B begin.
    pub id_b: u32,
}

/// An instruction descriptor, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// From the opcode.
    pub kind: Kind,
    /// From the opcode: 1 or 2.
    pub group: u32,
    /// Rows of D, of both thread blocks.
    pub m: u32,
    /// Columns of D.
    pub n: u32,
    /// Elements of A.
    pub a: Format,
    /// Elements of B.
    pub b: Format,
    /// Whether A and B are MN-major.
    pub transposed: [bool; 2],
    /// Whether A and B are negated.
    pub negated: [bool; 2],
    /// Elements of D.
    pub output: Output,
    /// For kinds with block scaling.
    pub scales: Option<ScaleSetup>,
}

/// The bits, and what to say about them.
struct Fields {
    bits: u32,
    kind: Kind,
    group: u32,
}

impl Fields {
    fn get(&self, low: u32, count: u32) -> u32 {
        self.bits >> low & ((1 << count) - 1)
    }

    fn illegal<T>(&self, name: &str, value: impl std::fmt::Display, wanted: &str) -> Result<T> {
        let message = format!(
            "instruction descriptor {:#010x} of kind::{} with cta_group::{}: {name} is {value}; it must be {wanted}",
            self.bits,
            self.kind.name(),
            self.group
        );
        Err(Fault::new(FaultKind::Descriptor, message))
    }

    fn zero(&self, name: &str, low: u32, count: u32) -> Result<()> {
        match self.get(low, count) {
            0 => Ok(()),
            value => self.illegal(name, value, "0"),
        }
    }

    /// Formats of `f8f6f4`.
    fn small(&self, name: &str, low: u32) -> Result<Format> {
        Ok(match self.get(low, 3) {
            0 => Format::E4M3,
            1 => Format::E5M2,
            3 => Format::E2M3,
            4 => Format::E3M2,
            5 => Format::E2M1,
            other => {
                return self.illegal(name, other, "0, 1, 3, 4 or 5");
            }
        })
    }

    /// Rows and columns; PTX ISA, "Shapes", table 38.
    fn shape(&self, m: u32, scaled: bool) -> Result<(u32, u32)> {
        let n = self.get(17, 6) * 8;
        let rows: &[u32] = match (self.group, scaled) {
            (1, false) => &[64, 128],
            (1, true) => &[128],
            _ => &[128, 256],
        };
        if !rows.contains(&m) {
            let wanted = rows.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ");
            return self.illegal("M", m, &wanted);
        }
        let step = match (self.group, m, scaled, self.kind) {
            (_, _, _, Kind::I8) => 16,
            (1, 64, ..) | (1, _, true, _) => 8,
            _ => 16,
        };
        // kind::i8 has N = 8 and 24 as well.
        let small = self.kind == Kind::I8 && self.group == 1 && [8, 24].contains(&n);
        if !small && (!n.is_multiple_of(step) || n == 0 || n > 256) {
            return self.illegal("N", n, &format!("a multiple of {step} in {step}..=256"));
        }
        Ok((m, n))
    }
}

/// Takes a descriptor apart. `count` is the number of scale factors of a row that the opcode names, if it does.
pub fn parse(bits: u32, kind: Kind, group: u32, count: Option<u32>) -> Result<Instruction> {
    let fields = Fields { bits, kind, group };
    if fields.get(2, 1) != 0 {
        return Err(Fault::unsupported("sparse tcgen05.mma (bit 2 of the instruction descriptor)"));
    }
    fields.zero("the selector of sparsity (bits 0 to 1)", 0, 2)?;
    let transposed = [fields.get(15, 1) != 0, fields.get(16, 1) != 0];
    let negated = [fields.get(13, 1) != 0, fields.get(14, 1) != 0];
    if kind.is_scaled() {
        scaled(&fields, transposed, negated, count)
    } else {
        dense(&fields, transposed, negated)
    }
}

fn dense(fields: &Fields, transposed: [bool; 2], negated: [bool; 2]) -> Result<Instruction> {
    let kind = fields.kind;
    let saturate = fields.get(3, 1) != 0;
    if saturate && kind != Kind::I8 {
        return fields.illegal("saturation (bit 3)", 1, "0");
    }
    let output = match (kind, fields.get(4, 2)) {
        (Kind::F16 | Kind::F8F6F4, 0) => Output::F16,
        (Kind::F16 | Kind::F8F6F4 | Kind::TF32, 1) => Output::F32,
        (Kind::I8, 2) => Output::S32 { saturate },
        (Kind::I8, other) => {
            return fields.illegal("the type of D (bits 4 to 5)", other, "2 (s32)");
        }
        (Kind::TF32, other) => {
            return fields.illegal("the type of D (bits 4 to 5)", other, "1 (f32)");
        }
        (_, other) => return fields.illegal("the type of D (bits 4 to 5)", other, "0 or 1"),
    };
    fields.zero("bit 6", 6, 1)?;
    let format = |name: &str, low: u32| match (kind, fields.get(low, 3)) {
        (Kind::F16, 0) => Ok(Format::F16),
        (Kind::F16, 1) => Ok(Format::BF16),
        (Kind::F16, other) => fields.illegal(name, other, "0 or 1"),
        (Kind::TF32, 2) => Ok(Format::TF32),
        (Kind::TF32, other) => fields.illegal(name, other, "2"),
        (Kind::I8, 0) => Ok(Format::U8),
        (Kind::I8, 1) => Ok(Format::S8),
        (Kind::I8, other) => fields.illegal(name, other, "0 or 1"),
        _ => fields.small(name, low),
    };
    let (a, b) =
        (format("the type of A (bits 7 to 9)", 7)?, format("the type of B (bits 10 to 12)", 10)?);
    if kind == Kind::F16 && a != b {
        return fields.illegal("the type of B", b.name(), "that of A");
    }
    if kind == Kind::I8 {
        fields.zero("negation (bits 13 to 14)", 13, 2)?;
    }
    if output == Output::F16 && a == Format::BF16 {
        return fields.illegal("the type of D", "f16", "f32 for bf16");
    }
    for (name, format, transposed) in [("A", a, transposed[0]), ("B", b, transposed[1])] {
        if transposed && format.bits() < 8 {
            return fields.illegal(
                &format!("the major-ness of {name}"),
                "MN",
                "K for 4 and 6 bits",
            );
        }
    }
    fields.zero("bit 23", 23, 1)?;
    fields.zero("bit 29", 29, 1)?;
    fields.zero("the shift of .ws (bits 30 to 31)", 30, 2)?;
    let (m, n) = fields.shape(fields.get(24, 5) * 16, false)?;
    Ok(Instruction {
        kind,
        group: fields.group,
        m,
        n,
        a,
        b,
        transposed,
        negated,
        output,
        scales: None,
    })
}

fn scaled(
    fields: &Fields,
    transposed: [bool; 2],
    negated: [bool; 2],
    count: Option<u32>,
) -> Result<Instruction> {
    let kind = fields.kind;
    fields.zero("bit 3", 3, 1)?;
    fields.zero("bit 6", 6, 1)?;
    let format = if fields.get(23, 1) != 0 { ScaleFormat::UE8M0 } else { ScaleFormat::UE4M3 };
    let (a, b, natural) = if kind == Kind::MXF8F6F4 {
        let (a, b) = (
            fields.small("the type of A (bits 7 to 9)", 7)?,
            fields.small("the type of B (bits 10 to 12)", 10)?,
        );
        (a, b, 1)
    } else {
        for (name, low, count) in
            [("the type of A (bits 7 to 9)", 7, 3), ("the type of B (bits 10 to 11)", 10, 2)]
        {
            if fields.get(low, count) != 1 {
                return fields.illegal(name, fields.get(low, count), "1 (e2m1)");
            }
        }
        fields.zero("bit 12", 12, 1)?;
        fields.zero("the major-ness (bits 15 to 16)", 15, 2)?;
        (Format::E2M1, Format::E2M1, if kind == Kind::MXF4 { 2 } else { 4 })
    };
    for (name, format, transposed) in [("A", a, transposed[0]), ("B", b, transposed[1])] {
        if transposed && format.bits() < 8 {
            return fields.illegal(
                &format!("the major-ness of {name}"),
                "MN",
                "K for 4 and 6 bits",
            );
        }
    }
    // kind::mxf4nvf4 has no default; 4X is what nvcc means by .block16.
    let count = count.unwrap_or(natural);
    let allowed: &[u32] = match kind {
        Kind::MXF8F6F4 => &[1],
        Kind::MXF4 => &[2],
        _ => &[2, 4],
    };
    if !allowed.contains(&count) {
        return fields.illegal(
            "the number of scale factors of a row",
            count,
            &format!("one of {allowed:?}"),
        );
    }
    if format == ScaleFormat::UE4M3 && (kind != Kind::MXF4NVF4 || count != 4) {
        return fields.illegal("the type of scale factors (bit 23)", 0, "1 (ue8m0)");
    }
    let (id_a, id_b) = (fields.get(29, 2), fields.get(4, 2));
    for (name, id) in [("A (bits 29 to 30)", id_a), ("B (bits 4 to 5)", id_b)] {
        let wanted = match count {
            4 if id != 0 => "0",
            2 if id % 2 != 0 => "0 or 2",
            _ => continue,
        };
        return fields.illegal(&format!("the scale factor id of {name}"), id, wanted);
    }
    if fields.get(31, 1) != 0 {
        return fields.illegal("K (bit 31)", 1, "0 on sm_100");
    }
    // Bits 24 to 26 are reserved: with them a multiple of 16 that no rule allows would come out.
    let (m, n) = fields.shape(fields.get(24, 5) * 16, true)?;
    let scales = Some(ScaleSetup { format, count, id_a, id_b });
    let output = Output::F32;
    Ok(Instruction { kind, group: fields.group, m, n, a, b, transposed, negated, output, scales })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_of_a_stock_kernel() -> Result<()> {
        let instruction = parse(0x0820_0480, Kind::MXF4NVF4, 1, Some(4))?;
        assert_eq!((instruction.m, instruction.n), (128, 128));
        assert_eq!((instruction.a, instruction.b), (Format::E2M1, Format::E2M1));
        let scales = ScaleSetup { format: ScaleFormat::UE4M3, count: 4, id_a: 0, id_b: 0 };
        assert_eq!(instruction.scales, Some(scales));
        Ok(())
    }

    #[test]
    fn the_ids_of_scale_factors() -> Result<()> {
        // E4M3 times E5M2, N = 256, M = 256, SFB id 3, SFA id 2.
        let bits = 3 << 4 | 1 << 10 | 32 << 17 | 1 << 23 | 16 << 24 | 2 << 29;
        let instruction = parse(bits, Kind::MXF8F6F4, 2, None)?;
        assert_eq!((instruction.m, instruction.n), (256, 256));
        assert_eq!((instruction.a, instruction.b), (Format::E4M3, Format::E5M2));
        let scales = ScaleSetup { format: ScaleFormat::UE8M0, count: 1, id_a: 2, id_b: 3 };
        assert_eq!(instruction.scales, Some(scales));
        Ok(())
    }

    #[test]
    fn illegal_fields_are_named() {
        let stock = 0x0820_0480;
        let f16 = 1 << 4 | 16 << 17 | 8 << 24;
        let cases = [
            (stock | 1 << 15, Kind::MXF4NVF4, 1, Some(4), "major-ness (bits 15 to 16) is 1"),
            (
                stock | 2 << 4,
                Kind::MXF4NVF4,
                1,
                Some(4),
                "id of B (bits 4 to 5) is 2; it must be 0",
            ),
            (stock | 1 << 29, Kind::MXF4NVF4, 1, Some(4), "id of A (bits 29 to 30) is 1"),
            (stock, Kind::MXF4NVF4, 1, Some(2), "bit 23) is 0; it must be 1 (ue8m0)"),
            (stock, Kind::MXF4, 1, None, "bit 23) is 0; it must be 1 (ue8m0)"),
            (stock | 1 << 31, Kind::MXF4NVF4, 1, Some(4), "K (bit 31) is 1"),
            (stock, Kind::MXF4NVF4, 1, Some(1), "number of scale factors of a row is 1"),
            (stock ^ 8 << 24 ^ 16 << 24, Kind::MXF4NVF4, 1, Some(4), "M is 256; it must be 128"),
            (stock & !(63 << 17) | 33 << 17, Kind::MXF4NVF4, 1, Some(4), "N is 264"),
            (stock & !(63 << 17) | 17 << 17, Kind::MXF4NVF4, 2, Some(4), "N is 136"),
            (stock & !(7 << 7), Kind::MXF4NVF4, 1, Some(4), "type of A (bits 7 to 9) is 0"),
            (f16 | 1 << 10, Kind::F16, 1, None, "type of B is bf16; it must be that of A"),
            (f16 | 1 << 3, Kind::F16, 1, None, "saturation (bit 3) is 1"),
            (f16 | 1 << 5, Kind::F16, 1, None, "type of D (bits 4 to 5) is 3"),
            (f16 | 2 << 7 | 2 << 10, Kind::F16, 1, None, "type of A (bits 7 to 9) is 2"),
            (
                f16 & !(63 << 17) | 1 << 17,
                Kind::F16,
                1,
                None,
                "N is 8; it must be a multiple of 16",
            ),
            (f16 | 5 << 7 | 1 << 15, Kind::F8F6F4, 1, None, "major-ness of A is MN"),
        ];
        for (bits, kind, group, count, words) in cases {
            let fault = parse(bits, kind, group, count).err();
            assert_eq!(
                fault.as_ref().map(|fault| fault.kind),
                Some(FaultKind::Descriptor),
                "{words}"
            );
            let message = fault.map(|fault| fault.message).unwrap_or_default();
            assert!(message.contains(words), "{message}");
        }
        assert!(parse(f16, Kind::F16, 1, None).is_ok());
    }
}
