//! The kernels without one of their waits for the launches ahead (`griddepcontrol.wait`), and without all of them: the
//! emulator finds what they then read too early. It runs their PTX with the change in place of what is in this program.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Arch, CHILD, Needs, Test};

const WAIT: &str = "griddepcontrol.wait;";
/// Reads, in its second kernel, what its first one writes: codes of A and both alphas.
const TEST: &str = "a_launch_may_begin_under_the_one_that_writes_its_operands";

/// The kernel that is chosen in that test, and how many of its waits it cannot do without there. On sm_90 one of the
/// others is before weights, which nobody writes there, and one comes after another of the same threads.
fn kernel(arch: Arch) -> (&'static str, usize) {
    match arch {
        Arch::H100 => ("nvfp4_sm90_widened_8x64_k128_s2", 1),
        Arch::B200 => ("nvfp4_sm100_twoacc_1sm_128x64_c1x1_static", 2),
    }
}

pub fn all() -> Vec<Test> {
    let of_arch = |arch: Arch| {
        let test =
            Test::new("a_wait_that_is_left_out_is_found", Needs::Emulator, move || leave_out(arch));
        let test = test.on(arch);
        match cuobjdump() {
            path if path.is_file() => test,
            path => test.not_here(format!("there is no {}", path.display())),
        }
    };
    Arch::ALL.into_iter().map(of_arch).collect()
}

/// Shows the PTX in a program.
fn cuobjdump() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("third_party/cuda/bin/cuobjdump")
}

fn leave_out(arch: Arch) {
    let folder = tempfile::tempdir().unwrap();
    let (kernel, needed) = kernel(arch);
    let text = ptx(folder.path(), kernel);
    let sites: Vec<usize> = text.match_indices(WAIT).map(|(at, _)| at).collect();
    let without = |gone: &[usize]| {
        let mut changed = text.clone();
        for at in gone.iter().rev() {
            changed.replace_range(*at..at + WAIT.len(), "");
        }
        let file = folder.path().join("changed.ptx");
        std::fs::write(&file, changed).unwrap();
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.env(CHILD, format!("{}::{TEST}", arch.name())).env("EMULATOR_PTX", file);
        let output = run.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), words)
    };
    let (right, words) = without(&[]);
    assert!(right, "{words}");
    let mut found = 0;
    for at in &sites {
        let (right, words) = without(&[*at]);
        assert!(right || words.contains("GridDependency: a read of"), "{words}");
        found += usize::from(!right);
    }
    assert_eq!(found, needed, "of {} waits", sites.len());
    let (right, words) = without(&sites);
    assert!(!right && words.contains("GridDependency: a read of"), "{words}");
}

/// The text that has a kernel.
fn ptx(folder: &Path, kernel: &str) -> String {
    let mut command = Command::new(cuobjdump());
    command.args(["-xptx", "all"]).arg(std::env::current_exe().unwrap()).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entry = format!(".entry {kernel}(");
    let files = std::fs::read_dir(folder).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let mut found: Vec<String> = texts.filter(|text| text.contains(&entry)).collect();
    assert_eq!(found.len(), 1, "{kernel}");
    found.remove(0)
}
