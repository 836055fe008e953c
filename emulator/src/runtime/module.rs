//! Modules that the program registered: found by the addresses of their host stubs, loaded when first used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::code::Code;
use super::memory::{Kind, Table};
use super::pointer::HostBytes;
use super::refusal::{Outcome, Refusal};
use crate::fatbin;
use crate::fault::Fault;
use crate::isa::{self, Kernel, Program};
use crate::machine::{Machine, variables};
use crate::ptx::{self, Space};
use crate::settings::Model;

/// A panic elsewhere leaves nothing half-done under the runtime's locks.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A module after it was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Its instructions.
    pub program: Arc<Program>,
    /// Variables in global and constant memory: address and bytes, by name.
    pub variables: HashMap<String, (u64, u64)>,
    /// `.version`
    pub version: (u32, u32),
}

/// One fat binary.
#[derive(Debug)]
pub struct Module {
    image: std::result::Result<HostBytes, String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    loaded: Option<Outcome<Arc<Loaded>>>,
    /// Variables that the host uses, too.
    managed: Vec<Managed>,
}

/// A `__managed__` variable.
#[derive(Debug)]
struct Managed {
    /// Where the program wants the address.
    pointer: HostBytes,
    name: String,
    bytes: u64,
}

impl Module {
    /// A module that is not loaded yet.
    pub fn new(image: std::result::Result<HostBytes, String>) -> Self {
        Self { image, state: Mutex::default() }
    }

    /// Loads it, once. The outcome stays, also when it is an error.
    pub fn load(
        &self,
        machine: &Machine,
        table: &Mutex<Table>,
        total: u64,
    ) -> Outcome<Arc<Loaded>> {
        let mut state = lock(&self.state);
        if let Some(outcome) = &state.loaded {
            return outcome.clone();
        }
        let outcome = self.load_now(&state.managed, machine, table, total).map(Arc::new);
        for variable in &state.managed {
            let found =
                outcome.as_ref().ok().and_then(|loaded| loaded.variables.get(&variable.name));
            // The host uses it whether or not the module could be loaded, and hears of that at the first launch.
            let address = match found {
                Some((address, _)) => Some(*address),
                None => machine.memory.allocate(variable.bytes.max(1)),
            };
            let address = address.unwrap_or(0).to_le_bytes();
            variable.pointer.write(|bytes| bytes.copy_from_slice(&address));
        }
        // The words are for stderr, once.
        state.loaded = Some(outcome.clone().map_err(|refusal| Refusal::from(refusal.code)));
        outcome
    }

    /// After cudaDeviceReset, which took the memory of the variables.
    pub fn unload(&self) {
        lock(&self.state).loaded = None;
    }

    fn load_now(
        &self,
        managed: &[Managed],
        machine: &Machine,
        table: &Mutex<Table>,
        total: u64,
    ) -> Outcome<Loaded> {
        let image =
            self.image.as_ref().map_err(|words| Code::INVALID_KERNEL_IMAGE.because(words))?;
        let text = image.read(|bytes| find_ptx(bytes, machine.settings.model))?;
        let invalid = |fault: Fault| Code::INVALID_PTX.from_fault(&fault);
        let module = ptx::parse(&text).map_err(invalid)?;
        let module = match &machine.settings.ptx {
            Some(path) => replaced(module, path)?,
            None => module,
        };
        let variables = place_variables(&module, managed, machine, table, total)?;
        let place = |name: &str| variables.get(name).map(|(address, _)| *address);
        let program = isa::lower(&module, &place).map_err(invalid)?;
        variables::write(&module, &program, &machine.memory, &place).map_err(invalid)?;
        Ok(Loaded { program: Arc::new(program), variables, version: module.version })
    }
}

fn find_ptx(image: &[u8], model: Model) -> Outcome<String> {
    let entries =
        fatbin::ptx_texts(image).map_err(|fault| Code::INVALID_KERNEL_IMAGE.from_fault(&fault))?;
    let chosen = fatbin::choose(&entries, model)
        .map_err(|fault| Code::NO_KERNEL_IMAGE_FOR_DEVICE.from_fault(&fault))?;
    Ok(chosen.to_owned())
}

/// The module in the file of EMULATOR_PTX, if it has the same kernels as this one; otherwise this one.
fn replaced(module: ptx::Module, path: &str) -> Outcome<ptx::Module> {
    let refused =
        |words: String| Code::INVALID_PTX.because(format!("EMULATOR_PTX: {path}: {words}"));
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let other = ptx::parse(&text).map_err(|fault| refused(fault.to_string()))?;
    Ok(if kernels(&other) == kernels(&module) { other } else { module })
}

/// Names of the entries, sorted.
fn kernels(module: &ptx::Module) -> Vec<&str> {
    let entries = module.functions.iter().filter(|function| function.is_entry);
    let mut names: Vec<&str> = entries.map(|function| function.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn place_variables(
    module: &ptx::Module,
    managed: &[Managed],
    machine: &Machine,
    table: &Mutex<Table>,
    total: u64,
) -> Outcome<HashMap<String, (u64, u64)>> {
    let mut placed = HashMap::new();
    for variable in &module.variables {
        if !matches!(variable.space, Space::Global | Space::Const) || variable.is_extern {
            continue;
        }
        let of_host = managed.iter().any(|other| other.name == variable.name);
        let kind = if of_host { Kind::ManagedVariable } else { Kind::Variable };
        let address = lock(table).allocate(machine, total, variable.size.max(1), kind, 0)?;
        placed.insert(variable.name.clone(), (address, variable.size));
    }
    Ok(placed)
}

/// Settings of a kernel by cudaFuncSetAttribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionSettings {
    /// MaxDynamicSharedMemorySize, in bytes.
    pub dynamic_shared: Option<u32>,
    /// NonPortableClusterSizeAllowed
    pub non_portable_cluster: bool,
    /// PreferredSharedMemoryCarveout
    pub carveout: i32,
    /// RequiredClusterWidth, Height, Depth
    pub required_cluster: [u32; 3],
}

/// A kernel of the program.
#[derive(Debug)]
pub struct Function {
    /// Where it is.
    pub module: Arc<Module>,
    /// As in PTX.
    pub name: String,
    /// What the program set.
    pub settings: Mutex<FunctionSettings>,
}

/// Everything that registered itself, by addresses of the host.
#[derive(Debug, Default)]
pub struct Registry {
    modules: HashMap<u64, Arc<Module>>,
    functions: HashMap<u64, Arc<Function>>,
    variables: HashMap<u64, (Arc<Module>, String)>,
    next: u64,
}

/// Programs register before `main`, before any setting is read.
pub static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

/// Works on the registry.
pub fn with_registry<R>(work: impl FnOnce(&mut Registry) -> R) -> R {
    work(lock(&REGISTRY).get_or_insert_default())
}

impl Registry {
    /// A new module; gives its handle.
    pub fn add_module(&mut self, image: std::result::Result<HostBytes, String>) -> u64 {
        self.next += 1;
        self.modules.insert(self.next, Arc::new(Module::new(image)));
        self.next
    }

    /// Takes a module away, with its kernels and variables.
    pub fn remove_module(&mut self, handle: u64) {
        let Some(module) = self.modules.remove(&handle) else { return };
        self.functions.retain(|_, function| !Arc::ptr_eq(&function.module, &module));
        self.variables.retain(|_, (of, _)| !Arc::ptr_eq(of, &module));
    }

    /// By handle.
    pub fn module(&self, handle: u64) -> Option<Arc<Module>> {
        self.modules.get(&handle).cloned()
    }

    /// All.
    pub fn modules(&self) -> Vec<Arc<Module>> {
        self.modules.values().cloned().collect()
    }

    /// A kernel with its stub on the host.
    pub fn add_function(&mut self, handle: u64, stub: u64, name: String) {
        if let Some(module) = self.module(handle) {
            let function = Function { module, name, settings: Mutex::default() };
            self.functions.insert(stub, Arc::new(function));
        }
    }

    /// A variable with its shadow on the host.
    pub fn add_variable(&mut self, handle: u64, shadow: u64, name: String) {
        if let Some(module) = self.module(handle) {
            self.variables.insert(shadow, (module, name));
        }
    }

    /// A managed variable: its address is written to `pointer` when the module is loaded.
    pub fn add_managed(&mut self, handle: u64, pointer: HostBytes, name: String, bytes: u64) {
        self.add_variable(handle, pointer.address(), name.clone());
        if let Some(module) = self.module(handle) {
            lock(&module.state).managed.push(Managed { pointer, name, bytes });
        }
    }

    /// By stub.
    pub fn function(&self, stub: u64) -> Option<Arc<Function>> {
        self.functions.get(&stub).cloned()
    }

    /// By shadow.
    pub fn variable(&self, shadow: u64) -> Option<(Arc<Module>, String)> {
        self.variables.get(&shadow).cloned()
    }
}

/// A kernel of a loaded module.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was registered.
    pub function: Arc<Function>,
    /// The module.
    pub loaded: Arc<Loaded>,
    /// The kernel.
    pub kernel: Kernel,
}
