//! The environment variables that change how programs run. `emulator/README.md` lists the same names.

use crate::fault::{Fault, FaultKind, Result};

/// Which device is shown to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Compute capability 10.0, sm_100a.
    B200,
    /// Compute capability 9.0, sm_90a.
    H100,
    /// Compute capability 8.0, for programs that look at devices; no kernel is interpreted for it.
    A100,
}

/// When asynchronous operations complete. All are legal; a correct program gives the same result under each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At once.
    Eager,
    /// Only when nothing else can go on, newest first.
    Lazy,
    /// At random moments and in random order, from the seed. Warps are interleaved at random as well.
    Random,
}

/// Which answer `clusterlaunchcontrol.try_cancel` gets while clusters are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The next cluster.
    Greedy,
    /// Always a failure.
    Never,
    /// Either, from the seed.
    Random,
}

/// How the tensor cores round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The exact sum of an instruction and its accumulator, rounded once to nearest even.
    Exact,
    /// Aligned, truncated terms, as in the model MMA-Sim (arXiv 2511.10909).
    MmaSim,
}

/// How `ex2.approx`, `rcp.approx` and the like round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mufu {
    /// Correctly rounded.
    Exact,
    /// Off by up to their documented error, from the seed.
    Perturbed,
}

/// Checks of what hardware allows although the manual does not, or asks a program to prevent. Off unless they are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// `copy-order`: `tcgen05.cp` over scale factors that an earlier MMA may still read.
    pub copy_order: bool,
    /// `pending-registers`: a register that is used between its `tcgen05.ld` and the wait for that.
    pub pending_registers: bool,
    /// `bulk-stores`: a thread block that ends before its bulk stores were read.
    pub bulk_stores: bool,
    /// `races`: accesses to shared and global memory that nothing orders.
    pub races: bool,
    /// `relaxed-reuse`: memory that is overwritten after a read, with only barriers between that promise nothing of memory.
    pub relaxed_reuse: bool,
    /// `proxy-fence`: stores that TMA or the tensor cores read, or overwrite, with no `fence.proxy.async` on the way.
    pub proxy_fence: bool,
    /// `mbarrier-init`: mbarriers that are used by who cannot know that they are initialized.
    pub mbarrier_init: bool,
    /// `tensor-fence`: operations on tensor memory of different threads with neither a release nor `tcgen05.fence`.
    pub tensor_fence: bool,
}

impl Checks {
    /// All of them.
    pub const ALL: Self = Self {
        copy_order: true,
        pending_registers: true,
        bulk_stores: true,
        races: true,
        relaxed_reuse: true,
        proxy_fence: true,
        mbarrier_init: true,
        tensor_fence: true,
    };

    /// Whether it has to be known what is before what.
    pub fn need_order(self) -> bool {
        self.races
            || self.relaxed_reuse
            || self.proxy_fence
            || self.mbarrier_init
            || self.tensor_fence
    }

    /// From names with commas between them; `all` stands for all, and nothing for none.
    pub fn parse(names: &str) -> Result<Self> {
        let mut checks = Self::default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "all" => checks = Self::ALL,
                "copy-order" => checks.copy_order = true,
                "pending-registers" => checks.pending_registers = true,
                "bulk-stores" => checks.bulk_stores = true,
                "races" => checks.races = true,
                "relaxed-reuse" => checks.relaxed_reuse = true,
                "proxy-fence" => checks.proxy_fence = true,
                "mbarrier-init" => checks.mbarrier_init = true,
                "tensor-fence" => checks.tensor_fence = true,
                _ => {
                    let known = "all, copy-order, pending-registers, bulk-stores, races, relaxed-reuse, \
                                 proxy-fence, mbarrier-init, tensor-fence";
                    let message = format!("EMULATOR_CHECKS names \"{name}\"; there are {known}");
                    return Err(Fault::new(FaultKind::Launch, message));
                }
            }
        }
        Ok(checks)
    }
}

/// Everything that is set from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// EMULATOR_DEVICE=b200|h100|a100
    pub model: Model,
    /// EMULATOR_SMS: multiprocessors; 148, 132 and 108 are the real numbers.
    pub sms: u32,
    /// EMULATOR_THREADS: threads of the host that interpret; all CPUs by default.
    pub threads: usize,
    /// EMULATOR_SCHEDULE=eager|lazy|random
    pub schedule: Schedule,
    /// EMULATOR_STREAMS=eager|lazy|random: when queued work runs; as EMULATOR_SCHEDULE by default.
    pub streams: Schedule,
    /// EMULATOR_SEED: for everything random.
    pub seed: u64,
    /// EMULATOR_CLC=greedy|never|random
    pub cancel: Cancel,
    /// EMULATOR_ROUNDING=exact|mma-sim
    pub rounding: Rounding,
    /// EMULATOR_MUFU=exact|perturbed
    pub mufu: Mufu,
    /// EMULATOR_CHECKS=copy-order,races and more, or all: see [`Checks`]
    pub checks: Checks,
    /// EMULATOR_STEPS: warp instructions that a thread block may execute.
    pub steps: u64,
    /// EMULATOR_TRACE: 1 for launches, 2 for asynchronous operations, 3 for every instruction; on stderr.
    pub trace: u8,
    /// EMULATOR_REPORT: file for the report of each kernel at exit, `-` for stderr.
    pub report: Option<String>,
    /// EMULATOR_CALLS: file to which the name of each call of the runtime is added, one a line.
    pub calls: Option<String>,
    /// EMULATOR_PTX: file with PTX that is loaded instead of that of the fat binary with the same kernels.
    pub ptx: Option<String>,
}

impl Settings {
    /// The defaults of a device.
    pub fn new(model: Model) -> Self {
        Self {
            model,
            sms: match model {
                Model::B200 => 148,
                Model::H100 => 132,
                Model::A100 => 108,
            },
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            schedule: Schedule::Eager,
            streams: Schedule::Eager,
            seed: 0,
            cancel: Cancel::Greedy,
            rounding: Rounding::Exact,
            mufu: Mufu::Exact,
            checks: Checks::default(),
            steps: 1 << 36,
            trace: 0,
            report: None,
            calls: None,
            ptx: None,
        }
    }

    /// Reads the variables through `get`. A value that means nothing is an error that names the choices.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let models = [("b200", Model::B200), ("h100", Model::H100), ("a100", Model::A100)];
        let model = choice(&get, "EMULATOR_DEVICE", &models)?;
        let mut settings = Self::new(model.unwrap_or(Model::B200));
        set(&mut settings.sms, number(&get, "EMULATOR_SMS", 1, 1024)?.map(|sms| sms as u32));
        set(&mut settings.threads, number(&get, "EMULATOR_THREADS", 1, 1024)?.map(|n| n as usize));
        let schedules =
            [("eager", Schedule::Eager), ("lazy", Schedule::Lazy), ("random", Schedule::Random)];
        set(&mut settings.schedule, choice(&get, "EMULATOR_SCHEDULE", &schedules)?);
        settings.streams =
            choice(&get, "EMULATOR_STREAMS", &schedules)?.unwrap_or(settings.schedule);
        set(&mut settings.seed, number(&get, "EMULATOR_SEED", 0, u64::MAX)?);
        let cancels =
            [("greedy", Cancel::Greedy), ("never", Cancel::Never), ("random", Cancel::Random)];
        set(&mut settings.cancel, choice(&get, "EMULATOR_CLC", &cancels)?);
        let roundings = [("exact", Rounding::Exact), ("mma-sim", Rounding::MmaSim)];
        set(&mut settings.rounding, choice(&get, "EMULATOR_ROUNDING", &roundings)?);
        let mufus = [("exact", Mufu::Exact), ("perturbed", Mufu::Perturbed)];
        set(&mut settings.mufu, choice(&get, "EMULATOR_MUFU", &mufus)?);
        if get("EMULATOR_STRICT").is_some() {
            // Who still sets it would otherwise believe that something is checked.
            let message = "EMULATOR_STRICT is no setting; EMULATOR_CHECKS names the checks";
            return Err(Fault::new(FaultKind::Launch, message));
        }
        set(
            &mut settings.checks,
            get("EMULATOR_CHECKS").map(|names| Checks::parse(&names)).transpose()?,
        );
        set(&mut settings.steps, number(&get, "EMULATOR_STEPS", 1, u64::MAX)?);
        set(&mut settings.trace, number(&get, "EMULATOR_TRACE", 0, 3)?.map(|level| level as u8));
        settings.report = get("EMULATOR_REPORT");
        settings.calls = get("EMULATOR_CALLS");
        settings.ptx = get("EMULATOR_PTX");
        Ok(settings)
    }

    /// From the environment of the process.
    pub fn from_environment() -> Result<Self> {
        Self::read(|name| std::env::var(name).ok())
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn choice<T: Copy>(
    get: &impl Fn(&str) -> Option<String>,
    name: &str,
    choices: &[(&str, T)],
) -> Result<Option<T>> {
    let Some(value) = get(name) else { return Ok(None) };
    match choices.iter().find(|(word, _)| *word == value) {
        Some((_, meaning)) => Ok(Some(*meaning)),
        None => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Err(bad(name, &value, &words.join("|")))
        }
    }
}

fn number(
    get: &impl Fn(&str) -> Option<String>,
    name: &str,
    least: u64,
    most: u64,
) -> Result<Option<u64>> {
    let Some(value) = get(name) else { return Ok(None) };
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(bad(name, &value, &format!("{least}..={most}"))),
    }
}

fn bad(name: &str, value: &str, expected: &str) -> Fault {
    Fault::new(FaultKind::Launch, format!("{name} is \"{value}\"; it can be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_means_nothing_names_the_choices() {
        let read = |name: &'static str, value: &'static str| {
            Settings::read(|asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(read("EMULATOR_DEVICE", "h100").map(|settings| settings.sms), Ok(132));
        assert_eq!(read("EMULATOR_DEVICE", "a100").map(|settings| settings.sms), Ok(108));
        assert_eq!(read("EMULATOR_SMS", "4").map(|settings| settings.sms), Ok(4));
        let message = |result: Result<Settings>| result.err().map(|fault| fault.message);
        assert_eq!(
            message(read("EMULATOR_SCHEDULE", "late")).as_deref(),
            Some("EMULATOR_SCHEDULE is \"late\"; it can be eager|lazy|random")
        );
        assert_eq!(
            message(read("EMULATOR_SMS", "0")).as_deref(),
            Some("EMULATOR_SMS is \"0\"; it can be 1..=1024")
        );
        let message = message(read("EMULATOR_STRICT", "1")).unwrap_or_default();
        assert!(message.contains("EMULATOR_CHECKS"), "{message}");
    }

    #[test]
    fn checks_are_named_one_by_one() {
        let read = |value: &'static str| {
            let get = |asked: &str| (asked == "EMULATOR_CHECKS").then(|| value.to_owned());
            Settings::read(get).map(|settings| settings.checks).map_err(|fault| fault.message)
        };
        let none = Checks::default();
        assert_eq!(Settings::new(Model::B200).checks, none);
        assert_eq!(read(""), Ok(none));
        assert_eq!(read("all"), Ok(Checks::ALL));
        assert_eq!(read("copy-order"), Ok(Checks { copy_order: true, ..none }));
        assert_eq!(
            read("bulk-stores, pending-registers"),
            Ok(Checks { bulk_stores: true, pending_registers: true, ..none })
        );
        assert_eq!(
            read("copy-order,registers").err().as_deref(),
            Some(
                "EMULATOR_CHECKS names \"registers\"; there are all, copy-order, pending-registers, bulk-stores, \
                 races, relaxed-reuse, proxy-fence, mbarrier-init, tensor-fence"
            )
        );
    }
}
