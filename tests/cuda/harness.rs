//! Where a test runs. On the GPU, if there is one that kernels are built for; otherwise the same binary is started
//! again for each test that needs a device, with the emulator in place of libcudart.so.
//!
//! `NVFP4_TEST_DEVICE=gpu` does without the emulator, `NVFP4_TEST_DEVICE=emulator` without the GPU. Where `NVFP4_TEST_ALL` is
//! set, as scripts/test.sh does, an emulator that is missing is an error instead of tests that are left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use nvfp4_dual_gemm::cuda::{self, ActivationType, Device, Kernel};
use nvfp4_dual_gemm::oracle::Bound;
use nvfp4_dual_gemm::{CudaError, Error};

/// Looked for in every kernel: registers that are used before their load was waited for, and thread blocks that end before
/// their bulk stores were read.
const CHECKS: &str = "pending-registers,bulk-stores";

const CHOICE: &str = "NVFP4_TEST_DEVICE";
const ALL: &str = "NVFP4_TEST_ALL";
/// Set in a process that was started for one test on the emulator: the name of the test.
pub const CHILD: &str = "NVFP4_TEST_CHILD";
/// When the emulator runs what is in streams.
const STREAMS: &str = "EMULATOR_STREAMS";
/// What the emulator shows.
const EMULATED: &str = "an emulated H100 and B200 (functional only)";
const LIBRARY: &str = "libemulator.so";

/// What a test runs on.
#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    /// Any machine, with the CUDA runtime that is linked.
    Nothing,
    /// No device that kernels are built for.
    NoDevice,
    /// The driver itself, which the emulator is none of, and any device.
    Driver,
    /// Any device.
    AnyDevice,
    /// A device that no kernel is built for.
    OtherDevice,
    /// A device that kernels are built for.
    Kernels,
    /// The emulator: the test sets variables that mean something to it alone.
    Emulator,
}

/// An architecture with kernels of its own, by the device that the emulator shows for it.
#[derive(Clone, Copy, PartialEq)]
pub enum Arch {
    /// Compute capability 9.0.
    H100,
    /// Compute capability 10.0.
    B200,
}

impl Arch {
    pub const ALL: [Arch; 2] = [Arch::H100, Arch::B200];

    /// As in `EMULATOR_DEVICE`, and in the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Arch::H100 => "h100",
            Arch::B200 => "b200",
        }
    }

    pub fn compute_capability(self) -> (u32, u32) {
        match self {
            Arch::H100 => (9, 0),
            Arch::B200 => (10, 0),
        }
    }

    /// Whether its kernels are in this build, which `NVFP4_CUDA_ARCHS` may have left out.
    fn is_built(self) -> bool {
        let (major, minor) = self.compute_capability();
        let number = format!("{major}{minor}");
        built_archs().split(',').any(|name| name.trim_end_matches(['a', 'f']) == number)
    }
}

/// Names of the architectures whose kernels are in this build.
fn built_archs() -> &'static str {
    option_env!("NVFP4_CUDA_ARCHS_BUILT").unwrap_or_default()
}

/// A test by name.
pub struct Test {
    name: String,
    needs: Needs,
    /// Whose kernels; any where `None`.
    arch: Option<Arch>,
    /// How many devices.
    devices: usize,
    /// Why not on the emulator.
    gpu_only: Option<&'static str>,
    variables: BTreeMap<&'static str, String>,
    /// Why it cannot run, whatever there is.
    not_here: Option<String>,
    run: Box<dyn Fn() + Send + Sync>,
}

impl Test {
    pub fn new(
        name: impl Into<String>,
        needs: Needs,
        run: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let variables = BTreeMap::new();
        Test {
            name: name.into(),
            needs,
            arch: None,
            devices: 1,
            gpu_only: None,
            variables,
            not_here: None,
            run: Box::new(run),
        }
    }

    /// Of the kernels of one architecture: on the GPU if it is one, else on the emulator.
    pub fn on(mut self, arch: Arch) -> Self {
        self.name = format!("{}::{}", arch.name(), self.name);
        self.arch = Some(arch);
        self
    }

    /// On that many devices, all with kernels; the emulator shows one.
    pub fn on_devices(mut self, devices: usize) -> Self {
        self.devices = devices;
        self
    }

    /// Leaves it out on the emulator, with a reason.
    pub fn on_gpu_only(mut self, reason: &'static str) -> Self {
        self.gpu_only = Some(reason);
        self
    }

    /// Leaves it out, with a reason.
    pub fn not_here(mut self, reason: String) -> Self {
        self.not_here = Some(reason);
        self
    }

    /// On the emulator alone, with the work of streams in an order that is drawn.
    fn in_drawn_order(mut self, seed: u32) -> Self {
        self.name = format!("{}::random{seed}", self.name);
        self.needs = Needs::Emulator;
        self.with(STREAMS, "random").with("EMULATOR_SEED", seed.to_string())
    }

    /// Sets a variable of the emulator.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    /// On the emulator, also looks for races and for stores that the async proxy cannot see. That takes half again of the
    /// time, or more: it is for small problems. `mbarrier-init` is left out: where accumulators overlap in a pair of
    /// SMs, CUTLASS initializes one mbarrier after the fence for them.
    pub fn with_checks_of_order(self) -> Self {
        let checks = format!("{CHECKS},races,proxy-fence,tensor-fence");
        self.with("EMULATOR_CHECKS", checks)
    }
}

/// Tests of the order of work, with more variants for the emulator: on a GPU nobody chooses what runs first.
pub fn in_drawn_orders(all: impl Fn() -> Vec<Test>) -> Vec<Test> {
    let on_emulator = |test: &Test| {
        test.gpu_only.is_none() && matches!(test.needs, Needs::AnyDevice | Needs::Kernels)
    };
    let drawn = (0..4).flat_map(|seed| {
        let tests = all().into_iter().filter(on_emulator).filter(|test| test.devices == 1);
        tests.map(move |test| test.in_drawn_order(seed)).collect::<Vec<_>>()
    });
    all().into_iter().chain(drawn).collect()
}

/// Kernels for activations in NVFP4, which most tests are about.
pub fn nvfp4_kernels() -> impl Iterator<Item = Kernel> {
    Kernel::all().filter(|kernel| kernel.info().activations == ActivationType::Nvfp4)
}

/// Tests by the names of their functions.
macro_rules! tests {
    ($needs:expr; $($function:ident),* $(,)?) => {
        vec![$($crate::harness::Test::new(stringify!($function), $needs, $function)),*]
    };
}
pub(crate) use tests;

/// The device to test on. There is one: the harness starts no test without what it needs.
pub fn device() -> Device {
    Device::first_supported().unwrap()
}

/// The same for tests that need no kernel.
pub fn any_device() -> Device {
    Device::open(0).unwrap()
}

/// What a value is held to that is made of `sums` sums of `k` products. The emulator truncates none unless it is told to.
pub fn bound_of_sums(device: &Device, k: usize, sums: usize) -> Bound {
    let truncates =
        || std::env::var("EMULATOR_ROUNDING").is_ok_and(|rounding| rounding == "mma-sim");
    if device.is_emulated() && !truncates() {
        return Bound::default();
    }
    Bound::on(device.compute_capability(), k, sums)
}

/// The whole of `main`.
pub fn main(tests: Vec<Test>) {
    if let Some(name) = std::env::var_os(CHILD) {
        return child(&tests, &name.to_string_lossy());
    }
    let arguments = Arguments::from_args();
    let machine = Machine::look(&arguments);
    let places: Vec<Place> = tests.iter().map(|test| machine.place(test)).collect();
    if !arguments.list {
        println!("{}", machine.in_words());
    }
    let machine = Arc::new(machine);
    let trials =
        tests.into_iter().zip(places).map(|(test, place)| trial(test, place, machine.clone()));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(machine); // the temporary folder
    conclusion.exit();
}

/// The one test that this process was started for.
fn child(tests: &[Test], name: &str) {
    let test = tests.iter().find(|test| test.name == name);
    let test = test.unwrap_or_else(|| panic!("{CHILD} names no test: {name}"));
    let device = any_device();
    assert!(device.is_emulated(), "the emulator was not loaded: {}", device.name());
    (test.run)();
}

/// Held by the test that runs in this process: a capture in CUDA's global mode, as other libraries begin them, refuses
/// what all other threads of the process allocate or wait for.
static GPU: Mutex<()> = Mutex::new(());

fn trial(test: Test, place: Place, machine: Arc<Machine>) -> Trial {
    let kind = if matches!(place, Place::Emulator) { "emulator" } else { "" };
    let name = test.name.clone();
    let run = move || match place {
        Place::Here => {
            // One that failed has left nothing that the next one needs.
            let _alone = GPU.lock().unwrap_or_else(PoisonError::into_inner);
            (test.run)();
            Ok(Completion::Completed)
        }
        Place::Emulator => machine.emulate(&test),
        Place::Nowhere(reason) => Ok(Completion::ignored_with(reason)),
    };
    Trial::ignorable_test(name, run).with_kind(kind)
}

enum Place {
    /// In this process.
    Here,
    /// In a process of its own.
    Emulator,
    /// Why not.
    Nowhere(String),
}

enum Found {
    /// A device that kernels are built for, by name and compute capability.
    Supported(String, (u32, u32)),
    /// Another device, by name.
    Other(String),
    /// Why there is none.
    Nothing(String),
}

/// What tests can run on here.
struct Machine {
    found: Found,
    /// The folder with its libcudart.so; or why not.
    emulator: Result<tempfile::TempDir, String>,
    /// The GPU is left alone where the emulator can do it.
    emulator_only: bool,
    /// Threads that the emulator may have for a test: all tests that run at once have as many as there are CPUs.
    threads: usize,
}

impl Machine {
    fn look(arguments: &Arguments) -> Self {
        let found = match Device::first_supported() {
            Ok(device) => Found::Supported(device.name().to_owned(), device.compute_capability()),
            Err(Error::Cuda(CudaError::Architecture { devices, .. })) => {
                Found::Other(devices[0].name.clone())
            }
            Err(error) => Found::Nothing(error.to_string()),
        };
        let choice = std::env::var(CHOICE).unwrap_or_default();
        let emulator = match choice.as_str() {
            "gpu" => Err(format!("{CHOICE} is gpu")),
            "" | "emulator" => emulator(),
            other => panic!("{CHOICE} is \"{other}\"; it is gpu, emulator or unset"),
        };
        if let (Err(reason), "emulator") = (&emulator, choice.as_str()) {
            panic!("{CHOICE} is emulator, but {reason}");
        }
        if let (Err(reason), Some(_)) = (&emulator, std::env::var_os(ALL)) {
            panic!("{ALL} is set, but {reason}");
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cpus / arguments.test_threads.unwrap_or(cpus).clamp(1, cpus);
        Machine { found, emulator, emulator_only: choice == "emulator", threads }
    }

    fn in_words(&self) -> String {
        let on = match (&self.found, &self.emulator) {
            _ if self.emulator_only => format!("on {EMULATED}"),
            (Found::Supported(name, _), Ok(_)) => {
                format!("on {name}; kernels of another architecture on {EMULATED}")
            }
            (Found::Supported(name, _), Err(_)) => format!("on {name}"),
            (Found::Other(name), Ok(_)) => {
                format!("no kernel is built for {name}: kernels on {EMULATED}")
            }
            (Found::Nothing(_), Ok(_)) => format!("no GPU here: on {EMULATED}"),
            (Found::Other(name), Err(reason)) => {
                format!("no kernel is built for {name}, and no emulator: {reason}")
            }
            (Found::Nothing(_), Err(reason)) => format!("no GPU here, and no emulator: {reason}"),
        };
        format!("\ndevice tests: {on}")
    }

    fn place(&self, test: &Test) -> Place {
        if let Some(reason) = &test.not_here {
            return Place::Nowhere(reason.clone());
        }
        if test.arch.is_some_and(|arch| !arch.is_built()) {
            let built = built_archs();
            return Place::Nowhere(format!(
                "this build has kernels of {built} alone (NVFP4_CUDA_ARCHS)"
            ));
        }
        let needs = test.needs;
        let (supported, other) =
            (matches!(self.found, Found::Supported(..)), matches!(self.found, Found::Other(_)));
        if test.devices > 1 {
            let there = match Device::all_supported() {
                _ if self.emulator_only => "the emulator shows one".to_owned(),
                Ok(devices) if devices.len() >= test.devices => return Place::Here,
                Ok(devices) => format!("there are {}", devices.len()),
                Err(error) => error.to_string(),
            };
            let needed = format!("it needs {} devices that kernels are built for", test.devices);
            return Place::Nowhere(format!("{needed}: {there}"));
        }
        // The GPU has no kernels of that architecture.
        let foreign = match (&self.found, test.arch) {
            (Found::Supported(_, capability), Some(arch)) => {
                *capability != arch.compute_capability()
            }
            _ => false,
        };
        let without = match (&self.found, &self.emulator) {
            (Found::Supported(name, _), Err(reason)) if foreign => {
                format!("the device is {name}, and {reason}")
            }
            (Found::Supported(name, _), _) => format!("there is {name}"),
            (Found::Other(name), Ok(_)) => format!("the device is {name}"),
            (Found::Other(name), Err(reason)) => format!("the device is {name}, and {reason}"),
            (Found::Nothing(nothing), Ok(_)) => nothing.clone(),
            (Found::Nothing(nothing), Err(reason)) => format!("{nothing}; and {reason}"),
        };
        let here = match needs {
            Needs::Nothing => return Place::Here,
            Needs::NoDevice | Needs::Driver => {
                let fits = if needs == Needs::Driver { supported || other } else { !supported };
                return if fits { Place::Here } else { Place::Nowhere(without) };
            }
            Needs::AnyDevice => supported || other,
            Needs::OtherDevice => other,
            Needs::Kernels => supported && !foreign,
            Needs::Emulator => false,
        };
        if let Some(reason) = test.gpu_only.filter(|_| !here || self.emulator_only) {
            return Place::Nowhere(reason.to_owned());
        }
        // Where there is a GPU with kernels, the emulator has only those of other architectures.
        let emulate = self.emulator_only || !supported || foreign;
        match &self.emulator {
            Ok(_) if emulate && (!here || self.emulator_only) => Place::Emulator,
            _ if here => Place::Here,
            _ => Place::Nowhere(without),
        }
    }

    /// Runs one test in a process of its own.
    fn emulate(&self, test: &Test) -> Result<Completion, Failed> {
        let folder = self.emulator.as_ref().map_err(Failed::from)?.path();
        let mut paths = vec![folder.to_owned()];
        paths.extend(std::env::var_os("LD_LIBRARY_PATH").iter().flat_map(std::env::split_paths));
        let mut command = Command::new(std::env::current_exe()?);
        command.env(CHILD, &test.name).env("LD_LIBRARY_PATH", std::env::join_paths(paths)?);
        command.env("EMULATOR_CHECKS", CHECKS);
        if std::env::var_os("EMULATOR_THREADS").is_none() {
            command.env("EMULATOR_THREADS", self.threads.to_string());
        }
        // Work in streams runs as late as can be: a test that waits for too little fails.
        command.env(STREAMS, "lazy");
        command.envs(&test.variables);
        if test.needs == Needs::OtherDevice {
            command.env("EMULATOR_DEVICE", "a100");
        } else if let Some(arch) =
            test.arch.or_else(|| Arch::ALL.into_iter().rev().find(|arch| arch.is_built()))
        {
            command.env("EMULATOR_DEVICE", arch.name());
        }
        let output = command.output()?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(Completion::Completed);
        }
        let variables: String =
            test.variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        Err(format!("{variables}{}\n{text}", output.status).into())
    }
}

/// A folder whose libcudart.so is the emulator, which cargo builds beside the tests as a member of the workspace.
fn emulator() -> Result<tempfile::TempDir, String> {
    match option_env!("NVFP4_CUDART_LINKED") {
        Some("shared") => {}
        Some(_) => {
            return Err("the CUDA runtime is linked statically; the emulator takes the place of a shared one: \
                        build with NVFP4_CUDART=shared"
                .to_owned());
        }
        None => return Err("DOCS_RS was set when the build script ran".to_owned()),
    }
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/<profile>/deps and target/<profile>.
    let folders: Vec<&Path> = executable.ancestors().skip(1).take(2).collect();
    let library = folders.iter().map(|folder| folder.join(LIBRARY)).find(|path| path.is_file());
    let library = library.ok_or_else(|| {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!(
            "there is no {LIBRARY} in {}: `cargo build -p emulator`, or `cargo test --workspace`, makes it",
            folders.join(" or ")
        )
    })?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let major = cuda::TOOLKIT.and_then(|version| version.split('.').next()).unwrap_or_default();
    let name: &Path = &folder.path().join(format!("libcudart.so.{major}"));
    std::os::unix::fs::symlink(&library, name)
        .map_err(|error| format!("{}: {error}", name.display()))?;
    Ok(folder)
}
