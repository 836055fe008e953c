//! Checkpoints: reading, refusing, quantizing and writing them.

mod arithmetic;
mod beside;
mod bias;
mod calibrate;
mod down;
mod experts;
mod files;
mod groups;
mod hostile;
mod keys;
mod layer;
mod outline;
mod parts;
mod quantize;
mod read_everything;
mod refuse;
mod replace;
mod requantized;
mod single_file;
mod tensors;
mod tiny;
mod weight_only;
mod whole;
