//! Any bytes as a safetensors checkpoint.
#![no_main]

#[path = "../../tests/checkpoint/read_everything.rs"]
mod read_everything;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read_everything::read_everything(bytes);
});
