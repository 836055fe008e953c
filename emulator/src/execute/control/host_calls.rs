//! Functions that device code calls and the driver provides: `__assertfail` and `vprintf`.

use crate::execute::memory;
use crate::execute::step::Step;
use crate::fault::{Fault, FaultKind, Result};

/// Most bytes of a string that are looked at.
const LONGEST: u64 = 1 << 16;

fn argument(step: &Step<'_>, lane: usize, arguments: &[(u32, u32)], index: usize) -> Result<u64> {
    let Some((offset, bytes @ (1..=8))) = arguments.get(index).copied() else {
        return Err(Fault::unsupported(format!("a call of the host without argument {index}")));
    };
    let mut value = [0; 8];
    let from = memory::read_parameter(step, lane, offset, bytes)?;
    value[..bytes as usize].copy_from_slice(from);
    Ok(u64::from_le_bytes(value))
}

/// The bytes at a generic address up to a zero.
fn string(step: &Step<'_>, lane: usize, address: u64) -> Result<String> {
    let mut bytes = Vec::new();
    for at in 0..LONGEST {
        let mut byte = [0];
        memory::read_generic(step, lane, address + at, &mut byte)?;
        if byte[0] == 0 {
            break;
        }
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `__assertfail`: a fault with the words of the assertion.
pub fn assert(step: &Step<'_>, arguments: &[(u32, u32)]) -> Result<()> {
    let lane = step.first_lane();
    let text = |index| string(step, lane, argument(step, lane, arguments, index)?);
    let line = argument(step, lane, arguments, 2)?;
    let message = format!("assertion `{}` failed at {}:{line} in {}", text(0)?, text(1)?, text(3)?);
    Err(Fault::new(FaultKind::Trap, message))
}

/// `vprintf`: to standard output, lane by lane.
pub fn print(step: &mut Step<'_>, arguments: &[(u32, u32)], result: Option<u32>) -> Result<()> {
    for lane in step.each_lane() {
        let format = string(step, lane, argument(step, lane, arguments, 0)?)?;
        let list = argument(step, lane, arguments, 1)?;
        let (text, count) = format_arguments(step, lane, &format, list)?;
        print!("{text}");
        if let Some(offset) = result {
            memory::write_parameter(step, lane, offset, &count.to_le_bytes())?;
        }
    }
    Ok(())
}

/// Reads arguments from the buffer that the compiler builds: each at a multiple of its size.
struct Arguments<'a, 'b> {
    step: &'a Step<'b>,
    lane: usize,
    at: u64,
}

impl Arguments<'_, '_> {
    fn next(&mut self, bytes: u64) -> Result<u64> {
        let at = self.at.next_multiple_of(bytes);
        let mut value = [0; 8];
        memory::read_generic(self.step, self.lane, at, &mut value[..bytes as usize])?;
        self.at = at + bytes;
        Ok(u64::from_le_bytes(value))
    }
}

/// A conversion of a format: `%-8.3lf`.
#[derive(Debug, Default)]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
}

fn format_arguments(
    step: &Step<'_>,
    lane: usize,
    format: &str,
    list: u64,
) -> Result<(String, i32)> {
    let mut arguments = Arguments { step, lane, at: list };
    let (mut text, mut count) = (String::new(), 0);
    let mut rest = format.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut conversion = Conversion::default();
        while let Some(flag) = rest.next_if(|letter| "-+ #0".contains(*letter)) {
            match flag {
                '-' => conversion.left = true,
                '+' => conversion.plus = true,
                ' ' => conversion.space = true,
                '#' => conversion.alternate = true,
                _ => conversion.zero = true,
            }
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<usize> {
            if rest.next_if_eq(&'*').is_some() {
                return Ok((arguments.next(4)? as u32 as usize).min(LONGEST as usize));
            }
            let mut value = 0;
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                value = (value * 10 + digit as usize - '0' as usize).min(LONGEST as usize);
            }
            Ok(value)
        };
        conversion.width = number(&mut rest)?;
        if rest.next_if_eq(&'.').is_some() {
            conversion.precision = Some(number(&mut rest)?);
        }
        while let Some(size) = rest.next_if(|letter| "hlLzjt".contains(*letter)) {
            conversion.long |= size != 'h';
        }
        let Some(kind) = rest.next() else { break };
        if kind == '%' {
            text.push('%');
            continue;
        }
        count += 1;
        text.push_str(&one(&mut arguments, &conversion, kind)?);
    }
    Ok((text, count))
}

fn one(arguments: &mut Arguments<'_, '_>, conversion: &Conversion, kind: char) -> Result<String> {
    let size = if conversion.long { 8 } else { 4 };
    let (sign, digits) = match kind {
        'd' | 'i' => {
            let bits = arguments.next(size)?;
            let value = if conversion.long { bits as i64 } else { i64::from(bits as u32 as i32) };
            (if value < 0 { "-" } else { positive(conversion) }, value.unsigned_abs().to_string())
        }
        'u' => ("", arguments.next(size)?.to_string()),
        'x' => {
            let digits = format!("{:x}", arguments.next(size)?);
            (if conversion.alternate { "0x" } else { "" }, digits)
        }
        'X' => {
            let digits = format!("{:X}", arguments.next(size)?);
            (if conversion.alternate { "0X" } else { "" }, digits)
        }
        'o' => {
            (if conversion.alternate { "0" } else { "" }, format!("{:o}", arguments.next(size)?))
        }
        'p' => ("0x", format!("{:x}", arguments.next(8)?)),
        'c' => {
            let letter = arguments.next(4)? as u8 as char;
            return Ok(pad(conversion, "", &letter.to_string()));
        }
        's' => {
            let address = arguments.next(8)?;
            let text = string(arguments.step, arguments.lane, address)?;
            let text: String =
                text.chars().take(conversion.precision.unwrap_or(usize::MAX)).collect();
            return Ok(pad(conversion, "", &text));
        }
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
            let value = f64::from_bits(arguments.next(8)?);
            let sign = if value.is_sign_negative() { "-" } else { positive(conversion) };
            let mut digits = floating(value.abs(), kind, conversion);
            if kind.is_ascii_uppercase() {
                digits.make_ascii_uppercase();
            }
            (sign, digits)
        }
        _ => return Err(Fault::unsupported(format!("printf with %{kind}"))),
    };
    Ok(pad(conversion, sign, &digits))
}

fn positive(conversion: &Conversion) -> &'static str {
    match (conversion.plus, conversion.space) {
        (true, _) => "+",
        (_, true) => " ",
        _ => "",
    }
}

fn pad(conversion: &Conversion, sign: &str, digits: &str) -> String {
    let missing = conversion.width.saturating_sub(sign.len() + digits.chars().count());
    match (conversion.left, conversion.zero) {
        (true, _) => format!("{sign}{digits}{}", " ".repeat(missing)),
        (_, true) => format!("{sign}{}{digits}", "0".repeat(missing)),
        _ => format!("{}{sign}{digits}", " ".repeat(missing)),
    }
}

/// `d.ddde+dd`, as in C.
fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        None => text,
    }
}

fn floating(value: f64, kind: char, conversion: &Conversion) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".to_owned() } else { "inf".to_owned() };
    }
    let precision = conversion.precision.unwrap_or(6);
    match kind {
        'f' | 'F' => format!("{value:.precision$}"),
        'e' | 'E' => scientific(value, precision),
        _ => {
            let precision = precision.max(1);
            let text = scientific(value, precision - 1);
            let exponent = text.split_once('e').and_then(|(_, e)| e.parse::<i32>().ok());
            let exponent = exponent.unwrap_or(0);
            let trim = |digits: &str| match digits.contains('.') && !conversion.alternate {
                true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => digits.to_owned(),
            };
            if exponent < -4 || exponent >= precision as i32 {
                let (digits, tail) = text.split_once('e').unwrap_or((&text, "+00"));
                format!("{}e{tail}", trim(digits))
            } else {
                let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
                trim(&format!("{value:.decimals$}"))
            }
        }
    }
}
