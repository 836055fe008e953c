//! The runtime: the machine, what the program made on it, and what went wrong.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread::ThreadId;

use super::code::Code;
use super::device::Device;
use super::launch::Dim3;
use super::memory::{Kind, Table};
use super::module::{Found, Function, lock, with_registry};
use super::progress::is_in_host_function;
use super::queue::Queue;
use super::refusal::{Outcome, Refusal, say};
use super::stream::{Mode, StreamKey, Streams};
use crate::machine::{Machine, global::GlobalMemory};
use crate::settings::Settings;

/// Everything that lives as long as the process.
#[derive(Debug)]
pub struct Runtime {
    /// Settings and device memory.
    pub machine: Machine,
    /// Facts of the device.
    pub device: Device,
    /// What was allocated.
    pub memory: Mutex<Table>,
    /// Streams, events, captures, graphs.
    pub streams: Mutex<Streams>,
    /// Where the names of calls go.
    calls: Option<Mutex<File>>,
    /// Work that has not run.
    pub(super) queue: Mutex<Queue>,
    /// Told when work has run.
    pub(super) moved: Condvar,
    /// After a kernel failed, what every call gives until cudaDeviceReset.
    pub(super) failure: Mutex<Option<Code>>,
}

/// What `<<<>>>` pushes.
#[derive(Clone, Copy, Debug)]
pub struct CallConfiguration {
    /// In thread blocks.
    pub grid: Dim3,
    /// In threads.
    pub block: Dim3,
    /// Bytes.
    pub dynamic_shared: u64,
    /// Handle.
    pub stream: u64,
}

thread_local! {
    static LAST_ERROR: Cell<Code> = const { Cell::new(Code::SUCCESS) };
    static MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
    static OWN_STREAM: Cell<u64> = const { Cell::new(0) };
    static CONFIGURATIONS: RefCell<Vec<CallConfiguration>> = const { RefCell::new(Vec::new()) };
}

static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();

/// The runtime; the first call reads the settings. Settings that mean nothing are said once and make every call fail.
pub fn runtime() -> Outcome<&'static Runtime> {
    let runtime = RUNTIME.get_or_init(|| match Settings::from_environment() {
        Ok(settings) => Some(Runtime::new(settings)),
        Err(fault) => {
            say(fault.message);
            None
        }
    });
    runtime.as_ref().ok_or_else(|| Refusal::from(Code::INITIALIZATION_ERROR))
}

/// A call: `body` runs unless an earlier kernel failed, or this is within a function that a stream called.
pub fn enter(name: &str, body: impl FnOnce(&'static Runtime) -> Outcome) -> Code {
    enter_always(name, |runtime| {
        if is_in_host_function() {
            return Err(Code::NOT_PERMITTED.into());
        }
        runtime.check()?;
        body(runtime)
    })
}

/// A call that works also after a kernel failed.
pub fn enter_always(name: &str, body: impl FnOnce(&'static Runtime) -> Outcome) -> Code {
    // Nothing here panics on purpose; should it, the C program must not see it.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = runtime()?;
        runtime.note(name);
        body(runtime)
    }));
    conclude(name, outcome.unwrap_or_else(|_| Err(Code::UNKNOWN.because("a panic inside"))))
}

/// Says and keeps what went wrong.
pub fn conclude(name: &str, outcome: Outcome) -> Code {
    let Err(refusal) = outcome else { return Code::SUCCESS };
    if let Some(words) = refusal.words {
        say(format_args!("{name}: {words}"));
    }
    let _ = LAST_ERROR.try_with(|last| last.set(refusal.code));
    refusal.code
}

/// cudaPeekAtLastError
pub fn peek_last_error() -> Code {
    LAST_ERROR.try_with(Cell::get).unwrap_or(Code::SUCCESS)
}

/// cudaGetLastError
pub fn take_last_error() -> Code {
    let code = peek_last_error();
    let _ = LAST_ERROR.try_with(|last| last.set(Code::SUCCESS));
    code
}

/// This thread's mode of capture; gives the one before.
pub fn exchange_mode(mode: Mode) -> Mode {
    MODE.with(|cell| cell.replace(mode))
}

/// `<<<>>>` before the arguments are evaluated.
pub fn push_configuration(configuration: CallConfiguration) {
    CONFIGURATIONS.with_borrow_mut(|stack| stack.push(configuration));
}

/// `<<<>>>` in the stub.
pub fn pop_configuration() -> Option<CallConfiguration> {
    CONFIGURATIONS.with_borrow_mut(Vec::pop)
}

fn thread() -> ThreadId {
    std::thread::current().id()
}

impl Runtime {
    fn new(settings: Settings) -> Self {
        let calls = settings.calls.as_ref().and_then(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(Mutex::new).inspect_err(|error| say(format_args!("{path}: {error}"))).ok()
        });
        Self {
            calls,
            device: Device::new(&settings),
            queue: Mutex::new(Queue::new(settings.streams, settings.seed)),
            machine: Machine { settings, memory: GlobalMemory::default() },
            memory: Mutex::default(),
            streams: Mutex::default(),
            moved: Condvar::new(),
            failure: Mutex::default(),
        }
    }

    /// Adds the name of a call to the file that is asked for.
    pub fn note(&self, name: &str) {
        if let Some(calls) = &self.calls
            && let Err(error) = writeln!(lock(calls), "{name}")
        {
            say(error);
        }
    }

    /// Fails after a kernel failed.
    pub fn check(&self) -> Outcome {
        match *lock(&self.failure) {
            Some(code) => Err(code.into()),
            None => Ok(()),
        }
    }

    /// What a handle means; `per_thread` for programs compiled with `--default-stream per-thread`.
    pub fn stream(&self, handle: u64, per_thread: bool) -> StreamKey {
        match handle {
            0 if !per_thread => StreamKey::Legacy,
            1 => StreamKey::Legacy,
            0 | 2 => {
                let own = OWN_STREAM.with(|own| {
                    let mut streams = lock(&self.streams);
                    if !streams.has(own.get()) {
                        own.set(streams.create(false, 0));
                    }
                    own.get()
                });
                StreamKey::Numbered(own)
            }
            handle => StreamKey::Numbered(handle),
        }
    }

    /// For calls that may be unsafe in a capture.
    pub fn check_unsafe(&self) -> Outcome {
        lock(&self.streams).check_unsafe(MODE.with(Cell::get), thread())
    }

    /// cudaStreamBeginCapture
    pub fn begin_capture(&self, stream: StreamKey, mode: Mode) -> Outcome {
        lock(&self.streams).begin(stream, mode, thread())
    }

    /// cudaStreamEndCapture
    pub fn end_capture(&self, stream: StreamKey) -> Outcome<u64> {
        lock(&self.streams).end(stream, thread())
    }

    /// A kernel by its stub on the host; loads its module.
    pub fn find(&self, stub: u64) -> Outcome<Found> {
        let function = self.function(stub)?;
        let loaded = function.module.load(&self.machine, &self.memory, self.device.memory)?;
        let Some(kernel) = loaded.program.kernels.get(&function.name).cloned() else {
            let words = format!("the PTX has no kernel {}", function.name);
            return Err(Code::INVALID_DEVICE_FUNCTION.because(words));
        };
        Ok(Found { function, loaded, kernel })
    }

    /// A kernel by its stub, whether or not it can be loaded.
    pub fn function(&self, stub: u64) -> Outcome<std::sync::Arc<Function>> {
        with_registry(|registry| registry.function(stub))
            .ok_or_else(|| Code::INVALID_RESOURCE_HANDLE.into())
    }

    /// A variable by its shadow on the host: address and bytes.
    pub fn variable(&self, shadow: u64) -> Outcome<(u64, u64)> {
        // A managed variable has no shadow that a program could name: it gives the address itself.
        let managed = lock(&self.memory).find(shadow);
        if let Some(block) = managed.filter(|block| block.kind == Kind::ManagedVariable) {
            return Ok((block.address, block.bytes));
        }
        let found = with_registry(|registry| registry.variable(shadow));
        let (module, name) = found.ok_or_else(|| Refusal::from(Code::INVALID_SYMBOL))?;
        let loaded = module.load(&self.machine, &self.memory, self.device.memory)?;
        loaded.variables.get(&name).copied().ok_or_else(|| Code::INVALID_SYMBOL.into())
    }

    /// cudaDeviceReset: memory, modules, streams, events, graphs and the failure go.
    pub fn reset(&self) {
        // Nothing may use what goes.
        let _ = self.synchronize_all();
        for module in with_registry(|registry| registry.modules()) {
            module.unload();
        }
        lock(&self.memory).clear(&self.machine);
        lock(&self.streams).clear();
        *lock(&self.failure) = None;
    }
}
