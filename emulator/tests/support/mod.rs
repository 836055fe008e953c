//! What tests share that compile CUDA C++ and run it: nvcc and g++, device memory, launches without the C interface.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use emulator::counters::Counters;
use emulator::execute;
use emulator::fatbin;
use emulator::isa::{self, Program};
use emulator::machine::global::GlobalMemory;
use emulator::machine::{Launch, Machine, variables};
use emulator::ptx;
use emulator::settings::Settings;

/// Any error, in words.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The folder of this package.
pub fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// nvcc: of NVCC, of third_party, or of the search path.
pub fn nvcc() -> Option<PathBuf> {
    let named = std::env::var_os("NVCC").map(PathBuf::from);
    let fetched = package().join("../third_party/cuda/bin/nvcc");
    let candidates = named.into_iter().chain([fetched, PathBuf::from("nvcc")]);
    candidates.into_iter().find(|path| works(path))
}

fn works(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// nvcc, or a line on stderr that says what is skipped and why.
pub fn nvcc_or_skip(test: &str) -> Option<PathBuf> {
    let found = nvcc().filter(|_| works(Path::new("g++")));
    if found.is_none() {
        eprintln!("{test} is skipped: it takes nvcc (NVCC, third_party/cuda or PATH) and g++");
    }
    found
}

fn checked(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed: {}\n{words}", output.status).into())
}

/// A folder for what a test makes.
pub fn scratch(name: &str) -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The fat binary that nvcc makes of a file of `tests/programs`, with PTX for both devices.
pub fn fat_binary(nvcc: &Path, source: &str, options: &[&str]) -> Outcome<Vec<u8>> {
    let folder = scratch(&format!("{source}{}", options.join("")))?;
    let file = folder.join("fatbin");
    checked(
        Command::new(nvcc)
            .args(["-std=c++17", "-fatbin", "--expt-relaxed-constexpr", "-diag-suppress=177"])
            .args(["-gencode", "arch=compute_100a,code=compute_100a"])
            .args(["-gencode", "arch=compute_90a,code=compute_90a"])
            .args(options)
            .arg("-o")
            .arg(&file)
            .arg(package().join("tests/programs").join(source)),
    )?;
    Ok(std::fs::read(file)?)
}

/// Compiles a file of `tests/programs` for the host and runs it: it reads the file of its first argument and writes
/// that of its second.
pub fn on_host(nvcc: &Path, source: &str, input: &[u8]) -> Outcome<Vec<u8>> {
    let folder = scratch(&format!("{source}-host"))?;
    let (program, from, to) = (folder.join("program"), folder.join("in"), folder.join("out"));
    let mut compiler = Command::new("g++");
    // -frounding-math: the programs change how the host rounds. No contraction: a*b+c is two operations there.
    compiler.args(["-std=c++17", "-O1", "-w", "-frounding-math", "-ffp-contract=off"]);
    compiler.args(["-mfma", "-x", "c++"]);
    if let Some(toolkit) = nvcc.parent().and_then(Path::parent) {
        compiler.arg("-I").arg(toolkit.join("include"));
    }
    compiler.arg(package().join("tests/programs").join(source));
    checked(compiler.arg("-o").arg(&program))?;
    std::fs::write(&from, input)?;
    checked(Command::new(program).arg(&from).arg(&to))?;
    Ok(std::fs::read(to)?)
}

/// A machine with a module on it.
#[derive(Debug)]
pub struct Device {
    /// Its memory and settings.
    pub machine: Machine,
    program: Arc<Program>,
}

impl Device {
    /// A machine that has loaded the fitting PTX of a fat binary.
    pub fn new(settings: Settings, container: &[u8]) -> Outcome<Self> {
        let entries = fatbin::ptx_texts(container)?;
        let text = fatbin::choose(&entries, settings.model)?;
        Self::with_ptx(settings, text)
    }

    /// A machine that has loaded PTX.
    pub fn with_ptx(settings: Settings, text: &str) -> Outcome<Self> {
        let machine = Machine { settings, memory: GlobalMemory::default() };
        let module = ptx::parse(text)?;
        let mut places = HashMap::new();
        for variable in &module.variables {
            if matches!(variable.space, ptx::Space::Global | ptx::Space::Const) {
                let address = machine.memory.allocate(variable.size.max(1));
                places.insert(variable.name.clone(), address.ok_or("no memory")?);
            }
        }
        let place = |name: &str| places.get(name).copied();
        let program = isa::lower(&module, &place)?;
        variables::write(&module, &program, &machine.memory, &place)?;
        Ok(Self { machine, program: Arc::new(program) })
    }

    /// Device memory with these bytes.
    pub fn upload(&self, bytes: &[u8]) -> Outcome<u64> {
        let address = self.allocate(bytes.len() as u64)?;
        self.machine.memory.write(address, bytes)?;
        Ok(address)
    }

    /// Device memory that nobody wrote.
    pub fn allocate(&self, bytes: u64) -> Outcome<u64> {
        Ok(self.machine.memory.allocate(bytes).ok_or("no memory")?)
    }

    /// Bytes of device memory, all of which were written.
    pub fn download(&self, address: u64, bytes: usize) -> Outcome<Vec<u8>> {
        let mut into = vec![0; bytes];
        self.machine.memory.read(address, &mut into, true)?;
        Ok(into)
    }

    /// Runs a kernel. Each parameter is its bytes.
    pub fn launch(&self, kernel: &str, shape: Shape, parameters: &[&[u8]]) -> Outcome<Counters> {
        let kernel = self.program.kernels.get(kernel).ok_or("no such kernel")?.clone();
        let mut bytes = vec![0; kernel.parameter_bytes as usize];
        assert_eq!(kernel.parameters.len(), parameters.len());
        for ((at, size), parameter) in kernel.parameters.iter().zip(parameters) {
            assert_eq!(*size as usize, parameter.len());
            bytes[*at as usize..][..parameter.len()].copy_from_slice(parameter);
        }
        let launch = Launch {
            program: Arc::clone(&self.program),
            cluster: kernel.required_cluster.unwrap_or([1; 3]),
            kernel,
            grid: [shape.grid, 1, 1],
            block: [shape.block, 1, 1],
            dynamic_shared: shape.dynamic_shared,
            parameters: bytes,
            blocks_per_sm: 1,
            cooperative: false,
        };
        Ok(execute::launch(&self.machine, &launch)?)
    }
}

/// Extents of a launch in one dimension.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Thread blocks.
    pub grid: u32,
    /// Threads of each.
    pub block: u32,
    /// Bytes.
    pub dynamic_shared: u32,
}

/// The bytes of 64-bit numbers.
pub fn bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// 64-bit numbers from their bytes.
pub fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect()
}

/// xorshift64*: numbers for inputs.
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
