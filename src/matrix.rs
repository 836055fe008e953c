//! An NVFP4 matrix: packed e2m1 codes, one UE4M3 scale factor per 16 of them, one global scale.

mod values;

use bytes::Bytes;

pub use values::ValuesView;

use crate::dtype::Element;
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::format::{BLOCK, quantize, ue4m3};
use crate::memory;
use crate::shape::MatrixShape;

/// A borrowed NVFP4 matrix (or `batch` of them), valid by construction.
///
/// `value[l, r, k] = e2m1(codes[l, r, k]) · ue4m3(scales[l, r, k/16]) · global_scale`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nvfp4View<'a> {
    shape: MatrixShape,
    codes: &'a [u8],
    scales: &'a [u8],
    global_scale: f32,
}

impl<'a> Nvfp4View<'a> {
    /// Takes `codes` \[batch, rows, cols/2\] (two codes per byte, the even k in the low nibble),
    /// `scales` \[batch, rows, cols/16\] (UE4M3, row-major), and one multiplier for the whole tensor.
    ///
    /// A matrix may have no rows, as activations of no tokens have. Its buffers are empty then.
    ///
    /// # Errors
    /// `batch` or `cols` zero, `cols` no multiple of 16, sizes that overflow, lengths that disagree
    /// with the shape, a scale byte that is NaN or has the sign bit set, a global scale that is not
    /// finite and > 0.
    pub fn new(
        batch: usize,
        rows: usize,
        cols: usize,
        codes: &'a [u8],
        scales: &'a [u8],
        global_scale: f32,
    ) -> Result<Self> {
        let operand = Operand::Matrix;
        let shape = MatrixShape::new(batch, rows, cols)?;
        shape.check_length(Buffer::Codes, 2, codes.len(), operand)?;
        shape.check_length(Buffer::Scales, BLOCK, scales.len(), operand)?;
        check_global_scale(global_scale)?;
        if let Some(index) = ue4m3::find_invalid(scales) {
            let blocks = cols / BLOCK;
            return Err(Error::ScaleByte {
                operand,
                byte: scales[index],
                batch: index / blocks / rows,
                row: index / blocks % rows,
                block: index % blocks,
            });
        }
        Ok(Nvfp4View { shape, codes, scales, global_scale })
    }

    /// Refuses weights without rows. Activations may have none; a layer without outputs is a mistake.
    pub(crate) fn check_rows(&self, operand: Operand) -> Result<()> {
        let MatrixShape { batch, rows, cols } = self.shape;
        match operand {
            Operand::B1 | Operand::B2 | Operand::W | Operand::Down if rows == 0 => {
                Err(Error::ZeroDimension { operand, batch, rows, cols })
            }
            _ => Ok(()),
        }
    }

    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        self.shape.batch
    }

    /// Rows: M for activations, N for weights.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Logical columns, K.
    pub fn cols(&self) -> usize {
        self.shape.cols
    }

    /// Packed codes \[batch, rows, cols/2\].
    pub fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// Scale factors \[batch, rows, cols/16\], row-major.
    pub fn scales(&self) -> &'a [u8] {
        self.scales
    }

    /// The multiplier of the whole tensor.
    pub fn global_scale(&self) -> f32 {
        self.global_scale
    }

    /// Packed codes of one row; `row` counts through all batches.
    pub(crate) fn row_codes(&self, row: usize) -> &'a [u8] {
        let bytes = self.shape.cols / 2;
        &self.codes[row * bytes..][..bytes]
    }

    /// Scale factors of one row; `row` counts through all batches.
    pub(crate) fn row_scales(&self, row: usize) -> &'a [u8] {
        let blocks = self.shape.cols / BLOCK;
        &self.scales[row * blocks..][..blocks]
    }

    /// One of the matrices of a batch.
    pub(crate) fn slice(&self, l: usize) -> Nvfp4View<'a> {
        let MatrixShape { rows, cols, .. } = self.shape;
        let n = rows * cols;
        Nvfp4View {
            shape: MatrixShape { batch: 1, rows, cols },
            codes: &self.codes[l * n / 2..][..n / 2],
            scales: &self.scales[l * n / BLOCK..][..n / BLOCK],
            global_scale: self.global_scale,
        }
    }

    /// Copies into an owned matrix.
    pub fn to_owned(&self) -> Nvfp4Matrix {
        Nvfp4Matrix {
            shape: self.shape,
            codes: Bytes::copy_from_slice(self.codes),
            scales: Bytes::copy_from_slice(self.scales),
            global_scale: self.global_scale,
        }
    }

    /// The 128x4 layout of the scale factors.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] when the padded buffer does not fit the address space.
    pub fn scale_layout(&self) -> Result<ScaleLayout> {
        ScaleLayout::new(self.shape.batch, self.shape.rows, self.shape.cols)
    }

    /// The scale factors in the 128x4 layout of the tensor cores, padding zero; the inverse of
    /// [`Nvfp4Matrix::from_swizzled`].
    ///
    /// # Errors
    /// Those of [`Nvfp4View::scale_layout`] and [`ScaleLayout::swizzle`].
    pub fn to_swizzled_scales(&self) -> Result<Vec<u8>> {
        self.scale_layout()?.swizzle(self.scales)
    }

    /// The values `e2m1 · scale · global` as f32, \[batch, rows, cols\].
    ///
    /// The vector is eight times as large as the codes. Without memory for it the process aborts, as with any `Vec`;
    /// [`Nvfp4View::dequantize_into`] allocates nothing.
    pub fn dequantize(&self) -> Vec<f32> {
        self.dequantize_as()
    }

    /// The values of [`Nvfp4View::dequantize`], rounded to `T`.
    pub fn dequantize_as<T: Element>(&self) -> Vec<T> {
        let mut out = vec![T::default(); self.shape.elements()];
        quantize::dequantize_into(self.codes, self.scales, self.global_scale, &mut out);
        out
    }

    /// [`Nvfp4View::dequantize_as`] into a buffer of batch·rows·cols elements.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn dequantize_into<T: Element>(&self, out: &mut [T]) -> Result<()> {
        self.shape.check_length(Buffer::Values, 1, out.len(), Operand::Matrix)?;
        quantize::dequantize_into(self.codes, self.scales, self.global_scale, out);
        Ok(())
    }
}

/// An owned NVFP4 matrix (or `batch` of them), valid by construction; see [`Nvfp4View`]. Clones share the memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Nvfp4Matrix {
    shape: MatrixShape,
    codes: Bytes,
    scales: Bytes,
    global_scale: f32,
}

impl Nvfp4Matrix {
    /// Takes the buffers of [`Nvfp4View::new`] without a copy. Each is a `Vec<u8>`, or [`Bytes`], which may be a part
    /// of shared memory.
    ///
    /// # Errors
    /// Those of [`Nvfp4View::new`].
    pub fn new(
        batch: usize,
        rows: usize,
        cols: usize,
        codes: impl Into<Bytes>,
        scales: impl Into<Bytes>,
        global_scale: f32,
    ) -> Result<Self> {
        let (codes, scales) = (codes.into(), scales.into());
        let shape = Nvfp4View::new(batch, rows, cols, &codes, &scales, global_scale)?.shape;
        Ok(Nvfp4Matrix { shape, codes, scales, global_scale })
    }

    /// Like [`Nvfp4Matrix::new`], from scale factors in the 128x4 layout of the tensor cores
    /// ([`crate::format::scale_layout`]). The contents of the padding do not matter.
    ///
    /// # Errors
    /// Those of [`Nvfp4View::new`], and [`Error::OutOfMemory`].
    pub fn from_swizzled(
        batch: usize,
        rows: usize,
        cols: usize,
        codes: impl Into<Bytes>,
        swizzled_scales: &[u8],
        global_scale: f32,
    ) -> Result<Self> {
        let scales = ScaleLayout::new(batch, rows, cols)?.unswizzle(swizzled_scales)?;
        Self::new(batch, rows, cols, codes, scales, global_scale)
    }

    /// Two-level quantization of `values` \[batch, rows, cols\]; see [`crate::format::quantize`].
    ///
    /// # Errors
    /// The shape errors of [`Nvfp4View::new`], [`Error::NonFinite`] for a NaN or an infinity, and
    /// [`Error::OutOfMemory`].
    pub fn quantize<T: Element>(
        values: &[T],
        batch: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let shape = MatrixShape::new(batch, rows, cols)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        let global_scale = quantize::global_scale(values, rows, cols)?;
        Self::quantize_checked(values, shape, global_scale)
    }

    /// Quantizes with a global scale that is already known (calibrated, or shared by tensors).
    /// Values beyond `2688·global_scale` saturate; [`crate::format::Saturation`] counts their blocks.
    ///
    /// # Errors
    /// Those of [`Nvfp4Matrix::quantize`], and [`Error::GlobalScale`].
    pub fn quantize_with_global<T: Element>(
        values: &[T],
        batch: usize,
        rows: usize,
        cols: usize,
        global_scale: f32,
    ) -> Result<Self> {
        let shape = MatrixShape::new(batch, rows, cols)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        check_global_scale(global_scale)?;
        quantize::check_finite(values, rows, cols)?;
        Self::quantize_checked(values, shape, global_scale)
    }

    fn quantize_checked<T: Element>(
        values: &[T],
        shape: MatrixShape,
        global_scale: f32,
    ) -> Result<Self> {
        let mut codes = memory::filled(0, shape.elements() / 2, Operand::Matrix)?;
        let mut scales = memory::filled(0, shape.elements() / BLOCK, Operand::Matrix)?;
        quantize::quantize_into(values, global_scale, &mut codes, &mut scales);
        Ok(Nvfp4Matrix { shape, codes: codes.into(), scales: scales.into(), global_scale })
    }

    /// Codes and scale factors, in memory that can be shared.
    pub(crate) fn shared(&self) -> (&Bytes, &Bytes) {
        (&self.codes, &self.scales)
    }

    /// Borrows the matrix.
    pub fn view(&self) -> Nvfp4View<'_> {
        Nvfp4View {
            shape: self.shape,
            codes: &self.codes,
            scales: &self.scales,
            global_scale: self.global_scale,
        }
    }

    /// Number of matrices, L.
    pub fn batch(&self) -> usize {
        self.shape.batch
    }

    /// Rows: M for activations, N for weights.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Logical columns, K.
    pub fn cols(&self) -> usize {
        self.shape.cols
    }

    /// Packed codes \[batch, rows, cols/2\].
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Scale factors \[batch, rows, cols/16\], row-major.
    pub fn scales(&self) -> &[u8] {
        &self.scales
    }

    /// The multiplier of the whole tensor.
    pub fn global_scale(&self) -> f32 {
        self.global_scale
    }

    /// The values as f32, \[batch, rows, cols\]; see [`Nvfp4View::dequantize`].
    pub fn dequantize(&self) -> Vec<f32> {
        self.view().dequantize()
    }

    /// The same codes and scale factors with another global scale.
    ///
    /// # Errors
    /// [`Error::GlobalScale`].
    pub fn with_global_scale(mut self, global_scale: f32) -> Result<Self> {
        check_global_scale(global_scale)?;
        self.global_scale = global_scale;
        Ok(self)
    }

    /// Returns the buffers: codes, scales, global scale. They are copied where others share them.
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>, f32) {
        (self.codes.into(), self.scales.into(), self.global_scale)
    }
}

impl<'a> From<&'a Nvfp4Matrix> for Nvfp4View<'a> {
    fn from(matrix: &'a Nvfp4Matrix) -> Self {
        matrix.view()
    }
}

/// A reference to a view serves where a view is asked for.
impl<'a> From<&Nvfp4View<'a>> for Nvfp4View<'a> {
    fn from(view: &Nvfp4View<'a>) -> Self {
        *view
    }
}

pub(crate) fn check_global_scale(value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::GlobalScale { operand: Operand::Matrix, value })
}
