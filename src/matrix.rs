//! An NVFP4 matrix: packed e2m1 codes, one UE4M3 scale factor per 16 of them, one global scale.

use crate::element::Element;
use crate::error::{Buffer, Error, Operand, Result};
use crate::format::scale_layout::ScaleLayout;
use crate::format::{BLOCK, quantize, ue4m3};

/// Shape of an operand: `batch` matrices of `rows`×`cols`, where `cols` is K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub batch: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Shape {
    /// Checks that no dimension is zero, that K is a multiple of 16 and that sizes fit.
    pub fn new(batch: usize, rows: usize, cols: usize) -> Result<Self> {
        let operand = Operand::Matrix;
        if batch == 0 || rows == 0 || cols == 0 {
            return Err(Error::ZeroDimension { operand, batch, rows, cols });
        }
        if !cols.is_multiple_of(BLOCK) {
            return Err(Error::KNotMultiple { operand, k: cols, multiple: BLOCK });
        }
        // The largest buffer made of a shape is one f32 an element.
        batch
            .checked_mul(rows)
            .and_then(|n| n.checked_mul(cols))
            .and_then(|n| n.checked_mul(4))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Error::SizeOverflow { operand, batch, rows, cols })?;
        Ok(Shape { batch, rows, cols })
    }

    pub fn elements(self) -> usize {
        self.batch * self.rows * self.cols
    }

    pub fn check_length(
        self,
        buffer: Buffer,
        per: usize,
        actual: usize,
        operand: Operand,
    ) -> Result<()> {
        let Shape { batch, rows, cols } = self;
        let expected = self.elements() / per;
        if actual != expected {
            return Err(Error::Length { operand, buffer, expected, actual, batch, rows, cols });
        }
        Ok(())
    }
}

/// A borrowed NVFP4 matrix (or `batch` of them), valid by construction.
///
/// `value[l, r, k] = e2m1(codes[l, r, k]) · ue4m3(scales[l, r, k/16]) · global_scale`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nvfp4View<'a> {
    shape: Shape,
    codes: &'a [u8],
    scales: &'a [u8],
    global_scale: f32,
}

impl<'a> Nvfp4View<'a> {
    /// Takes `codes` \[batch, rows, cols/2\] (two codes a byte, the even k in the low nibble),
    /// `scales` \[batch, rows, cols/16\] row-major UE4M3, and one multiplier for the whole tensor.
    ///
    /// # Errors
    /// Zero dimensions, `cols` no multiple of 16, sizes that overflow, lengths that disagree with the
    /// shape, a scale byte that is NaN or has the sign bit set, a global scale that is not finite
    /// and > 0.
    pub fn new(
        batch: usize,
        rows: usize,
        cols: usize,
        codes: &'a [u8],
        scales: &'a [u8],
        global_scale: f32,
    ) -> Result<Self> {
        let operand = Operand::Matrix;
        let shape = Shape::new(batch, rows, cols)?;
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
        let Shape { rows, cols, .. } = self.shape;
        let n = rows * cols;
        Nvfp4View {
            shape: Shape { batch: 1, rows, cols },
            codes: &self.codes[l * n / 2..][..n / 2],
            scales: &self.scales[l * n / BLOCK..][..n / BLOCK],
            global_scale: self.global_scale,
        }
    }

    /// Copies into an owned matrix.
    pub fn to_owned(&self) -> Nvfp4Matrix {
        Nvfp4Matrix {
            shape: self.shape,
            codes: self.codes.to_vec(),
            scales: self.scales.to_vec(),
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
    /// Those of [`Nvfp4View::scale_layout`].
    pub fn to_swizzled_scales(&self) -> Result<Vec<u8>> {
        self.scale_layout()?.swizzle(self.scales)
    }

    /// The values `e2m1 · scale · global` as f32, \[batch, rows, cols\].
    pub fn dequantize(&self) -> Vec<f32> {
        self.dequantize_as()
    }

    /// The values of [`Nvfp4View::dequantize`], rounded to `T`.
    pub fn dequantize_as<T: Element>(&self) -> Vec<T> {
        let mut out = vec![T::default(); self.shape.elements()];
        quantize::dequantize_into(self, &mut out);
        out
    }

    /// [`Nvfp4View::dequantize_as`] into a buffer of batch·rows·cols elements.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn dequantize_into<T: Element>(&self, out: &mut [T]) -> Result<()> {
        self.shape.check_length(Buffer::Values, 1, out.len(), Operand::Matrix)?;
        quantize::dequantize_into(self, out);
        Ok(())
    }
}

/// An owned NVFP4 matrix (or `batch` of them), valid by construction; see [`Nvfp4View`].
#[derive(Debug, Clone, PartialEq)]
pub struct Nvfp4Matrix {
    shape: Shape,
    codes: Vec<u8>,
    scales: Vec<u8>,
    global_scale: f32,
}

impl Nvfp4Matrix {
    /// Takes the buffers of [`Nvfp4View::new`] without copying them.
    ///
    /// # Errors
    /// Those of [`Nvfp4View::new`].
    pub fn new(
        batch: usize,
        rows: usize,
        cols: usize,
        codes: Vec<u8>,
        scales: Vec<u8>,
        global_scale: f32,
    ) -> Result<Self> {
        let shape = Nvfp4View::new(batch, rows, cols, &codes, &scales, global_scale)?.shape;
        Ok(Nvfp4Matrix { shape, codes, scales, global_scale })
    }

    /// Like [`Nvfp4Matrix::new`], from scale factors in the 128x4 layout of the tensor cores
    /// ([`crate::format::scale_layout`]); what stands in the padding does not matter.
    ///
    /// # Errors
    /// Those of [`Nvfp4View::new`].
    pub fn from_swizzled(
        batch: usize,
        rows: usize,
        cols: usize,
        codes: Vec<u8>,
        swizzled_scales: &[u8],
        global_scale: f32,
    ) -> Result<Self> {
        let scales = ScaleLayout::new(batch, rows, cols)?.unswizzle(swizzled_scales)?;
        Self::new(batch, rows, cols, codes, scales, global_scale)
    }

    /// Two-level quantisation of `values` \[batch, rows, cols\]; see [`crate::format::quantize`].
    ///
    /// # Errors
    /// The shape errors of [`Nvfp4View::new`], and [`Error::NonFinite`] for a NaN or an infinity.
    pub fn quantize<T: Element>(
        values: &[T],
        batch: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let shape = Shape::new(batch, rows, cols)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        let global_scale = quantize::global_scale(values, rows, cols)?;
        Ok(Self::quantize_checked(values, shape, global_scale))
    }

    /// Quantises with a global scale that is already known (calibrated, or shared by tensors).
    /// Values beyond `2688·global_scale` saturate.
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
        let shape = Shape::new(batch, rows, cols)?;
        shape.check_length(Buffer::Values, 1, values.len(), Operand::Matrix)?;
        check_global_scale(global_scale)?;
        quantize::global_scale(values, rows, cols)?; // only for its search for NaN and infinity
        Ok(Self::quantize_checked(values, shape, global_scale))
    }

    fn quantize_checked<T: Element>(values: &[T], shape: Shape, global_scale: f32) -> Self {
        let mut codes = vec![0; shape.elements() / 2];
        let mut scales = vec![0; shape.elements() / BLOCK];
        quantize::quantize_into(values, global_scale, &mut codes, &mut scales);
        Nvfp4Matrix { shape, codes, scales, global_scale }
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

    /// Gives the buffers back: codes, scales, global scale.
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>, f32) {
        (self.codes, self.scales, self.global_scale)
    }
}

impl<'a> From<&'a Nvfp4Matrix> for Nvfp4View<'a> {
    fn from(matrix: &'a Nvfp4Matrix) -> Self {
        matrix.view()
    }
}

/// So that a reference does where a view is asked for, whatever it is of.
impl<'a> From<&Nvfp4View<'a>> for Nvfp4View<'a> {
    fn from(view: &Nvfp4View<'a>) -> Self {
        *view
    }
}

fn check_global_scale(value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::GlobalScale { operand: Operand::Matrix, value })
}
