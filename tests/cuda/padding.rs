//! Bytes of scale factors that stand for nothing: the rows that complete an atom of 128, and the blocks that complete
//! an atom of 64 of K. Whatever is there, C is that of the operands.

use nvfp4_dual_gemm::cuda::{
    DeviceBuffer, DeviceMatrix, Kernel, Options, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::format::BLOCK;
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Nvfp4Matrix, f16, oracle};

use crate::bound::bound;
use crate::harness::{Arch, Needs, Test, device, nvfp4_kernels};
use crate::problem;

/// NaN of either sign, what is infinity or NaN where a byte becomes the high part of an fp16, the largest finite, and
/// bit 7 alone.
const ANY: [u8; 5] = [0xff, 0x7f, 0xf8, 0xfe, 0x80];
/// Finite UE4M3. Tensor cores of a B200 multiply the padding of K by codes of zero: NaN would stay NaN.
const FINITE: [u8; 6] = [0x7e, 0x01, 0x38, 0x80, 0xf8, 0xfe];

pub fn all() -> Vec<Test> {
    let test = |kernel: Kernel| {
        let name = format!("padding_of_scales_means_nothing::{kernel}");
        let hopper = kernel.info().compute_capability == Arch::H100.compute_capability();
        let (arch, along_k) =
            if hopper { (Arch::H100, &ANY[..]) } else { (Arch::B200, &FINITE[..]) };
        Test::new(name, Needs::Kernels, move || padding_means_nothing(kernel, along_k)).on(arch)
    };
    nvfp4_kernels().map(test).collect()
}

fn padding_means_nothing(kernel: Kernel, along_k: &[u8]) {
    let (m, n) = (kernel.info().tile.0 as usize, kernel.info().tile.1 as usize);
    // K ends within an atom in the first and the last.
    let shapes = [
        problem(m.min(19), n + 6, 96, 1),
        problem(m + 1, 70, 320, 1),
        problem(5, 2 * n - 3, 1056, 2),
    ];
    for shape in shapes {
        // In turn, and each byte alone.
        check(kernel, shape, &ANY, along_k);
        for (&row, &k) in ANY.iter().zip(along_k.iter().cycle()) {
            check(kernel, shape, &[row], &[k]);
        }
    }
}

fn check(kernel: Kernel, shape: GemmShape, along_rows: &[u8], along_k: &[u8]) {
    let GemmShape { m, n, batch, .. } = shape;
    let stream = Stream::new(&device()).unwrap();
    let operands = Operands::generate(shape, Data::Full, 11).unwrap();
    let upload = |matrix: &Nvfp4Matrix| {
        let scales = scales(matrix, along_rows, along_k);
        let view = |bytes: &[u8]| DeviceBuffer::from_host(bytes, &stream).unwrap().view();
        let (batch, rows, k) = (matrix.batch(), matrix.rows(), matrix.cols());
        let (codes, scales) = (view(matrix.codes()), view(&scales));
        DeviceMatrix::from_parts(batch, rows, k, codes, scales, matrix.global_scale()).unwrap()
    };
    let weights = match kernel.info().weights {
        // Repacked on the host, which makes padding of its own.
        WeightFormat::Interleaved => {
            Weights::prepare(&operands.b1, &operands.b2, WeightFormat::Interleaved, &stream)
        }
        WeightFormat::Separate => {
            Weights::from_matrices(upload(&operands.b1), upload(&operands.b2))
        }
        other => panic!("{other} weights"),
    };
    let (a, weights) = (upload(&operands.a), weights.unwrap());
    let c = DeviceBuffer::<f16>::from_host(&vec![f16::NAN; batch * m * n], &stream).unwrap();
    let options = Options::default().kernel(kernel);
    bound(&weights, &a, &c, &options).unwrap().launch(&stream).unwrap();
    let exact = oracle::exact::<f16>(&operands.gemm().unwrap()).unwrap();
    let comparison = oracle::compare(&c.to_vec(&stream).unwrap(), &exact);
    assert!(
        comparison.passes(),
        "{shape:?}, padded with {along_rows:02x?} and along K with {along_k:02x?}: {comparison:?}"
    );
}

/// The 128x4 layout, its padding filled with the given bytes in turn.
fn scales(matrix: &Nvfp4Matrix, along_rows: &[u8], along_k: &[u8]) -> Vec<u8> {
    let (rows, blocks) = (matrix.rows(), matrix.cols() / BLOCK);
    let (row_atoms, k_atoms) = (rows.div_ceil(128), blocks.div_ceil(4));
    let mut all = Vec::with_capacity(matrix.batch() * row_atoms * k_atoms * 512);
    for batch in 0..matrix.batch() {
        for atom in 0..row_atoms * k_atoms {
            // Byte 16i + 4j + c of an atom: row i + 32j, block c.
            for byte in 0..512 {
                let row = atom / k_atoms * 128 + byte / 16 + byte % 16 / 4 * 32;
                let block = atom % k_atoms * 4 + byte % 4;
                all.push(if row >= rows {
                    along_rows[all.len() % along_rows.len()]
                } else if block >= blocks {
                    along_k[all.len() % along_k.len()]
                } else {
                    matrix.scales()[(batch * rows + row) * blocks + block]
                });
            }
        }
    }
    all
}
