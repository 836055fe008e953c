//! A plan for values: everything of an MLP, from x to y, in one workspace.

use std::ffi::c_void;

use crate::cuda::chain::{Chain, Input, Parts, RawValues, Scratch};
use crate::cuda::plan::Plan;
use crate::cuda::quantizer;
use crate::cuda::rt::device::{Current, Device};
use crate::cuda::rt::memory::{DeviceView, Owner};
use crate::cuda::rt::stream::Stream;
use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::shape;

/// `h = glu(x·gate_projᵀ, x·up_projᵀ)` of values in device memory, and `y = h·down_projᵀ` where the layer has a down
/// projection. [`Layer::on_device`](crate::Layer::on_device) is that of a layer of an [`Engine`](crate::Engine).
///
/// A launch queues, in this order: the quantizer of x, or with 16-bit activations a conversion where x is of another
/// type; the dual GEMM; where h is to be quantized and its kernel cannot do it, the quantizer of h; the GEMM of the down
/// projection. The dual GEMM quantizes h itself where the global scale of h is known and N is a multiple of 32.
///
/// A launch needs [`LayerPlan::scratch_bytes`] of scratch memory, which must be zero before its first use. Every launch
/// writes to it; one scratch memory serves all layers of a stream.
#[derive(Debug)]
pub struct LayerPlan {
    /// One for all types of x; or with 16-bit activations one for each type that these can have, that of f32 first.
    chains: Vec<Chain>,
}

impl LayerPlan {
    /// Of at least one chain. Where activations have 16 bits, x of their type takes the chain of that type, and other x
    /// the first.
    pub(crate) fn new(first: Parts, others: impl IntoIterator<Item = Parts>) -> Result<Self> {
        quantizer::load_kernels(first.gate_up.device())?;
        let chains = std::iter::once(first).chain(others).map(Chain::new).collect();
        Ok(LayerPlan { chains })
    }

    pub(in crate::cuda) fn chain(&self, x: DType) -> &Chain {
        let own = self.chains.iter().find(|chain| chain.input() == Input::Values(x));
        own.unwrap_or(&self.chains[0])
    }

    fn first(&self) -> &Chain {
        &self.chains[0]
    }

    /// The plan of gate_proj and up_proj: of two 16-bit types that of f32 values.
    pub fn plan(&self) -> &Plan {
        self.first().plan()
    }

    /// The plan of down_proj, where there is one.
    pub fn down_plan(&self) -> Option<&Plan> {
        self.first().down_plan()
    }

    /// Whether the dual GEMM writes h in NVFP4, so that nothing runs between the two plans.
    pub fn quantizes_in_epilogue(&self) -> bool {
        self.first().quantizes_in_epilogue()
    }

    /// K: length of a row of x.
    pub fn k(&self) -> usize {
        self.first().k()
    }

    /// N: length of a row of y.
    pub fn n(&self) -> usize {
        self.first().n()
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.plan().device()
    }

    /// Bytes of scratch memory of a launch with so many rows, whatever the type of x.
    ///
    /// # Errors
    /// The shape errors of [`crate::Nvfp4View::new`], and those of [`Plan::workspace_bytes`].
    pub fn scratch_bytes(&self, rows: usize) -> Result<usize> {
        self.chains.iter().try_fold(0, |most, chain| Ok(most.max(chain.scratch(rows)?.end)))
    }

    /// Queues everything from `x` \[rows, K\] to `y` \[rows, N\]; nothing without rows. It does not allocate, upload or
    /// wait, and may be captured by [`Graph::capture`](super::Graph::capture). A NaN or an infinity in x is noted in the
    /// scratch memory where x is quantized or converted, and reported by [`LayerPlan::check`]; 16-bit activations that
    /// are taken as they are carry it into y.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) of x (operand a) and y (operand c), [`CudaError::Length`](crate::CudaError::Length) of the scratch memory,
    /// [`CudaError::Address`](crate::CudaError::Address) unless x begins at a multiple of 16 bytes and the scratch memory at one of 256,
    /// [`CudaError::WrongDevice`](crate::CudaError::WrongDevice), [`CudaError::Capture`](crate::CudaError::Capture) when somebody else captures the stream, [`CudaError::Call`](crate::CudaError::Call).
    pub fn launch<X: Element, Y: Element>(
        &self,
        x: &DeviceView<X>,
        rows: usize,
        y: &DeviceView<Y>,
        scratch: &DeviceView<u8>,
        stream: &Stream,
    ) -> Result<()> {
        self.check_lengths(x.len(), rows, y.len())?;
        let devices = [("x", x.device()), ("y", y.device()), ("scratch", scratch.device())];
        for (what, device) in devices {
            device.require(what, self.device())?;
        }
        self.device().require("plan", stream.device())?;
        let values = RawValues::new(
            rows,
            (x.as_ptr().cast_const(), X::DTYPE, self.k()),
            (y.as_ptr(), Y::DTYPE),
            (scratch.as_ptr(), scratch.len()),
        );
        let (chain, parts) = self.check_values(&values)?;
        if rows == 0 {
            return Ok(());
        }
        let used = [x.owner(), y.owner(), scratch.owner()].into_iter();
        let owners: Vec<Owner> = used.chain(chain.weights()).cloned().collect();
        // SAFETY: lengths, devices and alignment were looked at, the stream lives, and the owners keep the memory.
        stream.enqueue(&owners, |raw| unsafe { chain.queue(&values, &parts, raw, &mut |_| Ok(())) })
    }

    /// [`LayerPlan::launch`] with memory and a stream of another library, which may be capturing the stream.
    ///
    /// # Safety
    /// `stream` must be a live stream of the plan's device, of any kind: created, legacy or per-thread. The addresses
    /// must be memory of that device, of the sizes that [`RawValues`] states, until the launch has run; where the
    /// stream is being captured, they and the layer must outlive every replay of the graph.
    ///
    /// # Errors
    /// Those of [`LayerPlan::launch`] that numbers tell; [`CudaError::Refused`](crate::CudaError::Refused) for a residual of a layer without a down
    /// projection.
    pub unsafe fn launch_raw(&self, values: &RawValues, stream: *mut c_void) -> Result<()> {
        let (chain, parts) = self.check_values(values)?;
        if values.rows == 0 {
            return Ok(());
        }
        let _current = Current::enter(self.device())?;
        // SAFETY: the caller's.
        unsafe { chain.queue(values, &parts, stream.cast(), &mut |_| Ok(())) }
    }

    /// Waits for the stream, and reports what the last launches of this layer with this scratch memory have noted: places
    /// are counted in rows of its own K. With input scales per row, each row is its own first row. Reports whether any x since the last check had a NaN or an infinity, and whether h had
    /// where it was quantized with a scale of its own.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) with the first place of the launch that met it, of `rows` rows, once: of x as operand a, of
    /// operand h; [`CudaError::Length`](crate::CudaError::Length); [`CudaError::Capture`](crate::CudaError::Capture) inside of a capture; [`CudaError::Call`](crate::CudaError::Call), also for
    /// earlier work that failed.
    pub fn check(&self, scratch: &DeviceView<u8>, rows: usize, stream: &Stream) -> Result<()> {
        let mut first = Ok(());
        for (offset, columns, operand) in self.first().states(rows)? {
            let state = scratch.slice(offset, quantizer::state_bytes())?;
            let found = quantizer::findings(&state.to_vec(stream)?, rows, columns);
            if found.is_err() {
                state.slice(0, quantizer::global_scale_offset())?.fill_bytes(0, stream)?;
            }
            // What is wrong with x is wrong with h.
            first = first.and(found.map(|_| ()).map_err(|e| e.with_operand(operand)));
        }
        first
    }

    pub(in crate::cuda) fn check_lengths(&self, x: usize, rows: usize, y: usize) -> Result<()> {
        shape::check_values(rows, (self.k(), x), (self.n(), y))
    }

    fn check_values(&self, values: &RawValues) -> Result<(&Chain, Scratch)> {
        let chain = self.chain(values.x_type);
        Ok((chain, chain.check_values(values)?))
    }
}
