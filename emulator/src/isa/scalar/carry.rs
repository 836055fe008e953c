//! Arithmetic with the carry flag, which is a predicate of its own (PTX ISA, "Extended-Precision Integer Arithmetic
//! Instructions").

use super::lanes::{Op, unsupported};
use super::operands::{Bits, Build, Type, code};
use crate::fault::Result;
use crate::isa::renumber::CARRY;
use crate::isa::value::LANES;

/// A width of the instructions.
trait Width: Type<Bits = Self> + Bits {
    /// `a + b + carry` and the carry.
    fn add(self, other: Self, carry: bool) -> (Self, bool);
    /// `a - b - borrow` and the borrow.
    fn subtract(self, other: Self, borrow: bool) -> (Self, bool);
    /// The low and the high half of a product; signed for the high half of signed types.
    fn product(self, other: Self, signed: bool) -> [Self; 2];
}

macro_rules! width {
    ($type:ident, $signed:ident, $wide:ident, $signed_wide:ident) => {
        impl Width for $type {
            fn add(self, other: Self, carry: bool) -> (Self, bool) {
                let (sum, first) = self.overflowing_add(other);
                let (sum, second) = sum.overflowing_add(Self::from(carry));
                (sum, first | second)
            }
            fn subtract(self, other: Self, borrow: bool) -> (Self, bool) {
                let (rest, first) = self.overflowing_sub(other);
                let (rest, second) = rest.overflowing_sub(Self::from(borrow));
                (rest, first | second)
            }
            fn product(self, other: Self, signed: bool) -> [Self; 2] {
                let wide = if signed {
                    let (a, b) = (self as $signed, other as $signed);
                    ($signed_wide::from(a) * $signed_wide::from(b)) as $wide
                } else {
                    $wide::from(self) * $wide::from(other)
                };
                [wide as Self, (wide >> Self::BITS) as Self]
            }
        }
    };
}
width!(u32, i32, u64, i64);
width!(u64, i64, u128, i128);

/// Lowers.
pub fn lower(build: &Build<'_>) -> Result<Op> {
    match build.kind() {
        "u32" | "s32" | "b32" => of_width::<u32>(build),
        "u64" | "s64" | "b64" => of_width::<u64>(build),
        _ => Err(unsupported("type of carries")),
    }
}

fn of_width<T: Width>(build: &Build<'_>) -> Result<Op> {
    let carry = CARRY as usize;
    let into = build.result::<T>(0)?;
    let (a, b) = (build.source::<T>(1)?, build.source::<T>(2)?);
    let family = build.statement.family.as_str();
    let sets = build.has_any(&["cc"]);
    let reads = matches!(family, "addc" | "subc" | "madc");
    let subtracts = matches!(family, "sub" | "subc");
    let multiplies = matches!(family, "mad" | "madc");
    if !multiplies && !matches!(family, "add" | "addc" | "sub" | "subc") {
        return Err(unsupported("family with a carry"));
    }
    let addend = if multiplies { Some(build.source::<T>(3)?) } else { None };
    let half = usize::from(build.has_any(&["hi"]));
    let signed = build.kind().starts_with('s');
    Ok(code(move |lanes| {
        let flags = if reads { lanes.predicates[carry] } else { 0 };
        let mut values = [T::default(); LANES];
        let mut carries = 0;
        let (a, b) = (a.get(lanes), b.get(lanes));
        let addend = addend.as_ref().map(|addend| addend.get(lanes));
        for (lane, value) in values.iter_mut().enumerate() {
            let flag = flags >> lane & 1 != 0;
            let (result, carry) = match addend {
                Some(c) => a[lane].product(b[lane], signed)[half].add(c[lane], flag),
                None if subtracts => a[lane].subtract(b[lane], flag),
                None => a[lane].add(b[lane], flag),
            };
            *value = result;
            carries |= u32::from(carry) << lane;
        }
        lanes.write(into, &values);
        if sets {
            lanes.write_predicate(Some(carry), carries);
        }
    }))
}
