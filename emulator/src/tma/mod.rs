//! The tensor memory accelerator: tensor maps, boxes, swizzles.
//!
//! Nothing here knows of instructions; `execute::bulk` calls it, and the runtime encodes maps with it.
