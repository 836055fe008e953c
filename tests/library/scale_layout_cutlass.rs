//! The 128x4 layout of scale factors against CUTLASS's own: the program `scale_layout` of the C++
//! tests moves bytes by CUTLASS's layout function, the library by its own, and neither checks
//! itself.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;

/// What CUTLASS's side writes where no scale factor belongs. No scale factor of the tests is that.
const PADDING: u8 = 0xEE;

/// Builds `scale_layout` in the folder where the build script built the kernels, as `ctest` does.
fn program() -> Option<PathBuf> {
    let (Some(cmake), Some(build)) = (option_env!("NVFP4_CMAKE"), option_env!("NVFP4_CMAKE_BUILD"))
    else {
        println!("skipped: DOCS_RS was set when the build script ran, nothing native was built");
        return None;
    };
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/cpp");
    for arguments in [
        ["-S", source, "-B", build, "-DNVFP4_BUILD_TESTS=ON"].as_slice(),
        ["--build", build, "--target", "scale_layout"].as_slice(),
    ] {
        let output = Command::new(cmake).args(arguments).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{cmake} {arguments:?}: {words}");
    }
    Some(PathBuf::from(build).join("tests/layouts/scale_layout"))
}

fn cutlass(
    program: &PathBuf,
    direction: &str,
    (batch, rows, k): (usize, usize, usize),
    input: &[u8],
) -> Vec<u8> {
    let mut child = Command::new(program)
        .args([direction, &rows.to_string(), &k.to_string(), &batch.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads everything before it writes.
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "scale_layout {direction} {rows} {k} {batch}");
    output.stdout
}

/// Bytes of e4m3 that are finite and positive, or 0.
fn scales(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next() % 0x7F).collect()
}

fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes = Vec::new();
    for rows in [1, 31, 32, 33, 64, 96, 127, 128, 129, 200, 256, 300, 384] {
        for k in [32, 64, 96, 128, 224, 256, 992] {
            for batch in [1, 3] {
                shapes.push((batch, rows, k));
            }
        }
    }
    shapes.extend([(1, 4096, 7168), (2, 1000, 4096), (1, 3072, 32), (7, 130, 2080)]);
    shapes
}

#[test]
fn both_directions_agree_with_cutlass() {
    let Some(program) = program() else { return };
    for (seed, shape) in shapes().into_iter().enumerate() {
        let (batch, rows, k) = shape;
        let layout = ScaleLayout::new(batch, rows, k).unwrap();
        let row_major = scales(batch * rows * k / 16, seed as u64 + 1);

        let mut theirs = cutlass(&program, "swizzle", shape, &row_major);
        let ours = layout.swizzle(&row_major).unwrap();
        assert_eq!(theirs.len(), ours.len(), "{shape:?}");
        let padding = theirs.iter().filter(|&&byte| byte == PADDING).count();
        assert_eq!(padding, ours.len() - row_major.len(), "{shape:?}");
        // Ours is zero in the padding.
        theirs.iter_mut().filter(|byte| **byte == PADDING).for_each(|byte| *byte = 0);
        assert!(theirs == ours, "{shape:?}: swizzled bytes differ");

        // Back, from bytes that are all different from what a wrong padding would bring.
        let swizzled = scales(ours.len(), seed as u64 + 1000);
        let theirs = cutlass(&program, "unswizzle", shape, &swizzled);
        assert!(
            theirs == layout.unswizzle(&swizzled).unwrap(),
            "{shape:?}: row-major bytes differ"
        );
    }
}
