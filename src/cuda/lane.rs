//! Calls with values on the host: a stream and memory of their own.

use std::ffi::c_void;

use crate::cuda::chain::{ALIGNMENT, RawValues};
use crate::cuda::ffi::call::check;
use crate::cuda::ffi::sys::cudart;
use crate::cuda::layer_plan::LayerPlan;
use crate::cuda::quantizer;
use crate::cuda::rt::capture::Relaxed;
use crate::cuda::rt::device::Device;
use crate::cuda::rt::memory::DeviceBuffer;
use crate::cuda::rt::stream::Stream;
use crate::dtype::Element;
use crate::error::{Error, Operand, Result};
use crate::format::quantize;
use crate::op::Stage;

/// What a call with values on the host has for itself while it runs: a stream that nobody else knows, and memory.
#[derive(Debug)]
pub(crate) struct Lane {
    stream: Stream,
    x: DeviceBuffer<u8>,
    y: DeviceBuffer<u8>,
    scratch: DeviceBuffer<u8>,
}

impl Lane {
    pub fn new(device: &Device) -> Result<Self> {
        let none = || DeviceBuffer::<u8>::alloc(0, device);
        Ok(Lane { stream: Stream::new(device)?, x: none()?, y: none()?, scratch: none()? })
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Runs a layer and waits once; with `done` after each stage, before it is called. Allocates where no call before had as many rows.
    pub fn run<X: Element, Y: Element>(
        &mut self,
        layer: &LayerPlan,
        x: &[X],
        rows: usize,
        y: &mut [Y],
        mut done: Option<&mut (dyn FnMut(Stage) + Send)>,
    ) -> Result<()> {
        layer.check_lengths(x.len(), rows, y.len())?;
        let finite =
            || quantize::check_finite(x, rows, layer.k()).map_err(|e| e.with_operand(Operand::A));
        let chain = layer.chain(X::DTYPE);
        if chain.takes_as_it_is(X::DTYPE) {
            finite()?;
        }
        let Lane { stream, x: on_device_x, y: on_device_y, scratch } = self;
        let scratch_bytes = layer.scratch_bytes(rows)?;
        for (buffer, bytes) in [
            (&mut *on_device_x, size_of_val(x)),
            (&mut *on_device_y, size_of_val(y)),
            (&mut *scratch, scratch_bytes),
        ] {
            if buffer.len() < bytes {
                *buffer = DeviceBuffer::alloc(0, stream.device())?; // freed before more is asked for
                *buffer = DeviceBuffer::zeroed(bytes, stream)?;
            }
        }
        let values = RawValues::new(
            rows,
            (on_device_x.as_ptr().cast_const(), X::DTYPE, layer.k()),
            (on_device_y.as_ptr(), Y::DTYPE),
            (scratch.as_ptr(), scratch_bytes),
        );
        let parts = chain.check_values(&values)?;
        // Of x, and of h where that is quantized with a scale of its own.
        let states = chain.states(rows)?;
        let bytes = quantizer::state_bytes();
        let mut notes = [[0u8; ALIGNMENT]; 2];
        // Captures of other threads do not matter to a stream that nobody else knows.
        let _relaxed = Relaxed::enter();
        let copy =
            |to: *mut c_void, from: *const c_void, bytes: usize, raw: cudart::cudaStream_t| {
                // SAFETY: both sides have as many bytes, and this function waits for the stream. The kind is that of
                // the addresses.
                check("cudaMemcpyAsync", unsafe {
                    cudart::cudaMemcpyAsync(to, from, bytes, cudart::cudaMemcpyDefault, raw)
                })
            };
        let wait = |raw: cudart::cudaStream_t| {
            // SAFETY: the stream lives.
            check("cudaStreamSynchronize", unsafe { cudart::cudaStreamSynchronize(raw) })
        };
        let outcome = stream.enqueue(&[], |raw| {
            let mut queue = || {
                let mut after = |stage| {
                    let Some(done) = &mut done else { return Ok(()) };
                    wait(raw)?;
                    done(stage);
                    Ok(())
                };
                copy(values.x.cast_mut(), x.as_ptr().cast(), size_of_val(x), raw)?;
                // SAFETY: the memory is this lane's, the weights are the layer's, and both are held.
                unsafe { chain.queue(&values, &parts, raw, &mut after) }?;
                copy(y.as_mut_ptr().cast(), values.y, size_of_val(y), raw)?;
                for (note, (offset, ..)) in notes.iter_mut().zip(&states) {
                    copy(
                        note.as_mut_ptr().cast(),
                        values.scratch.wrapping_byte_add(*offset),
                        bytes,
                        raw,
                    )?;
                }
                Ok(())
            };
            let queued = queue();
            // Also when something failed: what was queued uses memory of the host.
            queued.and(wait(raw))
        });
        outcome?;
        for (note, &(offset, columns, operand)) in notes.iter().zip(&states) {
            let found = quantizer::findings(&note[..bytes], rows, columns);
            if found.is_err() {
                let state = scratch.slice(offset, quantizer::global_scale_offset())?;
                state.fill_bytes(0, stream)?;
                finite()?; // a row that was a problem of its own does not know its number
            }
            // A value that does not fit 16 bits is named as it was.
            found.map(|_| ()).map_err(|error| match (operand, error.with_operand(operand)) {
                (Operand::A, Error::NonFinite { operand, batch, row, col, .. }) => {
                    let value = x[row * columns + col].to_f32();
                    Error::NonFinite { operand, value, batch, row, col }
                }
                (_, error) => error,
            })?;
        }
        Ok(())
    }
}
