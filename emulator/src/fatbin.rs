//! Fat binaries: finds the PTX text of a module.
//!
//! What `__cudaRegisterFatBinary` gets points to a container: a header of 16 bytes, then entries, each for one
//! architecture, with PTX or machine code, perhaps compressed. NVIDIA documents nothing of this; the layout is that of
//! what nvcc 13.5 writes.

use std::io::Read;

use crate::fault::{Fault, FaultKind, Result};
use crate::settings::Model;

/// What a container begins with.
pub const CONTAINER_MAGIC: u32 = 0xBA55_ED50;
/// What the wrapper in `.nvFatBinSegment` begins with: this, a version, and the address of the container.
pub const WRAPPER_MAGIC: u32 = 0x4662_43B1;

/// Bytes of the part of an entry's header that is read.
const ENTRY_HEADER: usize = 64;
/// A flag of an entry: its payload is one block of LZ4.
const LZ4: u64 = 0x2000;
/// A flag of an entry: its payload is a frame of Zstandard.
const ZSTD: u64 = 0x8000;
/// More PTX than any compiler writes.
const LARGEST: u64 = 1 << 31;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// PTX and what stands after its `.target`.
    Ptx {
        /// `sm_100a`
        target: String,
        /// All of it.
        text: String,
    },
    /// Machine code, which cannot be run here.
    Sass,
    /// Something else, by the number of its kind.
    Other(u16),
}

/// One architecture's part of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 100 for sm_100, sm_100a and sm_100f.
    pub arch: u32,
    /// PTX or not.
    pub content: Content,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.content {
            Content::Ptx { target, .. } => write!(f, "PTX for {target}"),
            Content::Sass => write!(f, "machine code for sm_{}", self.arch),
            Content::Other(kind) => write!(f, "kind {kind} for sm_{}", self.arch),
        }
    }
}

fn bad(what: impl std::fmt::Display) -> Fault {
    Fault::unsupported(format_args!("this fat binary: {what}"))
}

/// Little-endian bytes of a number that begins at an offset.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N);
    let found = end.and_then(|end| bytes.get(at..end)).and_then(|bytes| bytes.try_into().ok());
    found.ok_or_else(|| bad(format_args!("{} bytes end before byte {}", bytes.len(), at + N)))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

/// Bytes of a whole container, its header included, from its header.
pub fn container_len(header: &[u8; 16]) -> Result<u64> {
    let (magic, size) = (u32_at(header, 0)?, u16_at(header, 6)?);
    if magic != CONTAINER_MAGIC {
        return Err(bad(format_args!("it begins with {magic:#010x}, not {CONTAINER_MAGIC:#010x}")));
    }
    let length = u64_at(header, 8)?.checked_add(u64::from(size));
    length.filter(|_| size >= 16).ok_or_else(|| bad("the sizes in its header"))
}

/// All entries of a container.
pub fn ptx_texts(container: &[u8]) -> Result<Vec<Entry>> {
    let header = number(container, 0)?;
    let length = container_len(&header)?;
    let all = usize::try_from(length).ok().and_then(|length| container.get(..length));
    let all = all.ok_or_else(|| bad(format_args!("{} bytes of {length}", container.len())))?;
    let mut rest = all.get(usize::from(u16_at(&header, 6)?)..).unwrap_or_default();
    let mut entries = Vec::new();
    // Zeros may fill the end.
    while rest.len() >= ENTRY_HEADER && rest.iter().any(|byte| *byte != 0) {
        let size = u32_at(rest, 4)? as usize;
        let payload = u64_at(rest, 8)?;
        let end = usize::try_from(payload).ok().and_then(|payload| size.checked_add(payload));
        let (Some(entry), Some(end)) = (end.and_then(|end| rest.get(..end)), end) else {
            return Err(bad(format_args!("an entry of {payload} bytes in {}", rest.len())));
        };
        if size < ENTRY_HEADER {
            return Err(bad(format_args!("an entry's header of {size} bytes")));
        }
        entries.push(read_entry(entry, entry.get(size..).unwrap_or_default())?);
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(entries)
}

fn read_entry(header: &[u8], payload: &[u8]) -> Result<Entry> {
    let (kind, arch) = (u16_at(header, 0)?, u32_at(header, 28)?);
    let content = match kind {
        1 => {
            let text = text(header, payload)?;
            Content::Ptx { target: target(&text)?.to_owned(), text }
        }
        2 => Content::Sass,
        kind => Content::Other(kind),
    };
    Ok(Entry { arch, content })
}

fn text(header: &[u8], payload: &[u8]) -> Result<String> {
    let (compressed, flags, full) =
        (u32_at(header, 16)? as usize, u64_at(header, 40)?, u64_at(header, 56)?);
    let bytes = if flags & (LZ4 | ZSTD) == 0 {
        payload.to_vec()
    } else {
        let payload = payload.get(..compressed).ok_or_else(|| {
            bad(format_args!("{compressed} compressed bytes in {}", payload.len()))
        })?;
        let bytes = if flags & LZ4 != 0 { lz4(payload, full)? } else { zstd(payload, full)? };
        if bytes.len() as u64 != full {
            return Err(bad(format_args!("{} bytes where {full} were compressed", bytes.len())));
        }
        bytes
    };
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Ok(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
}

fn lz4(payload: &[u8], full: u64) -> Result<Vec<u8>> {
    // A byte of LZ4 stands for 255 at most: a larger size is wrong, and must not take memory.
    let most = (payload.len() as u64 + 1) * 256;
    let full = usize::try_from(full.min(most)).unwrap_or(usize::MAX);
    lz4_flex::block::decompress(payload, full).map_err(|error| bad(format_args!("LZ4: {error}")))
}

fn zstd(payload: &[u8], full: u64) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| bad(format_args!("Zstandard: {error}"));
    let decoder =
        ruzstd::decoding::StreamingDecoder::new(payload).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    let most = full.saturating_add(1).min(LARGEST);
    decoder.take(most).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    Ok(bytes)
}

/// The word after `.target`.
fn target(text: &str) -> Result<&str> {
    let rest = text.split_once(".target").map(|(_, rest)| rest.trim_start());
    let end = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let word = rest.map(|rest| rest.get(..end(rest).unwrap_or(rest.len())).unwrap_or(""));
    word.filter(|word| !word.is_empty()).ok_or_else(|| bad("PTX without .target"))
}

/// How well PTX for a target suits a device: architecture, then how much of it the target may use. `None` when it
/// cannot run there.
fn suits(target: &str, model: Model) -> Option<(u32, u8)> {
    let device = match model {
        Model::B200 => 100,
        Model::H100 => 90,
        Model::A100 => 80,
    };
    let name = target.strip_prefix("sm_")?;
    let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    let (number, suffix) = name.split_at_checked(digits)?;
    let arch: u32 = number.parse().ok()?;
    match suffix {
        "" if arch <= device => Some((arch, 0)),
        // A family is the devices of one major number.
        "f" if arch <= device && arch / 10 == device / 10 => Some((arch, 1)),
        "a" if arch == device => Some((arch, 2)),
        _ => None,
    }
}

/// The PTX that a device runs: that with the highest architecture. The fault names all entries.
pub fn choose(entries: &[Entry], model: Model) -> Result<&str> {
    let texts = entries.iter().filter_map(|entry| match &entry.content {
        Content::Ptx { target, text } => Some((suits(target, model)?, text)),
        Content::Sass | Content::Other(_) => None,
    });
    // Of equals the first one.
    match texts.rev().max_by_key(|(suits, _)| *suits) {
        Some((_, text)) => Ok(text),
        None => {
            let device = match model {
                Model::B200 => "a B200 (sm_100a)",
                Model::H100 => "an H100 (sm_90a)",
                Model::A100 => "an A100 (sm_80)",
            };
            let names: Vec<String> = entries.iter().map(Entry::to_string).collect();
            let held = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            let message = format!("no PTX for {device}; the fat binary holds {held}");
            Err(Fault::new(FaultKind::Launch, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = include_bytes!("../tests/data/fatbin/plain.fatbin");
    const ZSTD_FILE: &[u8] = include_bytes!("../tests/data/fatbin/zstd.fatbin");
    const LZ4_FILE: &[u8] = include_bytes!("../tests/data/fatbin/lz4.fatbin");
    const SASS: &[u8] = include_bytes!("../tests/data/fatbin/sass.fatbin");

    #[test]
    fn the_text_is_the_same_however_it_is_packed() -> Result<()> {
        let body = |container| -> Result<String> {
            let entries = ptx_texts(container)?;
            let text = choose(&entries, Model::B200)?;
            assert!(text.trim_start().starts_with(".version 9.5"), "{text}");
            assert!(text.trim_end().ends_with('}'), "{text}");
            Ok(text.split_once(".address_size").map_or("", |(_, body)| body).trim().to_owned())
        };
        let plain = body(PLAIN)?;
        assert!(plain.contains(".entry twice("), "{plain}");
        assert_eq!(plain, body(ZSTD_FILE)?);
        assert_eq!(plain, body(LZ4_FILE)?);
        Ok(())
    }

    #[test]
    fn each_device_gets_its_own() -> Result<()> {
        let entries = ptx_texts(ZSTD_FILE)?;
        assert!(choose(&entries, Model::B200)?.contains(".target sm_100a"));
        assert!(choose(&entries, Model::H100)?.contains(".target sm_90a"));
        Ok(())
    }

    #[test]
    fn what_cannot_run_is_named() -> Result<()> {
        let refusal = |container, model| -> Result<Option<String>> {
            Ok(choose(&ptx_texts(container)?, model).err().map(|fault| fault.message))
        };
        assert_eq!(
            refusal(SASS, Model::H100)?.as_deref(),
            Some("no PTX for an H100 (sm_90a); the fat binary holds machine code for sm_90")
        );
        assert_eq!(
            refusal(PLAIN, Model::H100)?.as_deref(),
            Some("no PTX for an H100 (sm_90a); the fat binary holds PTX for sm_100a")
        );
        Ok(())
    }

    #[test]
    fn targets_by_device() {
        let cases = [
            ("sm_100a", Some((100, 2)), None),
            ("sm_100f", Some((100, 1)), None),
            ("sm_100", Some((100, 0)), None),
            ("sm_90a", None, Some((90, 2))),
            ("sm_90", Some((90, 0)), Some((90, 0))),
            ("sm_52", Some((52, 0)), Some((52, 0))),
            ("sm_103a", None, None),
            ("sm_103", None, None),
            ("sm_120f", None, None),
            ("compute_90", None, None),
        ];
        for (target, b200, h100) in cases {
            assert_eq!(suits(target, Model::B200), b200, "{target}");
            assert_eq!(suits(target, Model::H100), h100, "{target}");
        }
    }

    #[test]
    fn damage_is_an_error() -> Result<()> {
        for file in [PLAIN, ZSTD_FILE, LZ4_FILE, SASS] {
            for length in 0..file.len() {
                assert!(ptx_texts(&file[..length]).is_err(), "{length}");
            }
            // No byte may bring it down, whatever it says.
            for at in 0..file.len() {
                for value in [0, 1, 0x7F, 0xFF] {
                    let mut bytes = file.to_vec();
                    bytes[at] = value;
                    let _ = ptx_texts(&bytes)
                        .and_then(|entries| choose(&entries, Model::B200).map(str::len));
                }
            }
        }
        Ok(())
    }
}
