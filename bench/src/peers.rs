//! Peers: a Python script that takes turns with us, over the same operands.
//!
//! It is asked in JSON, a line each way. A peer that ends the script, or does not answer, is left out from there on; the
//! script is started again for the others.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use nvfp4_dual_gemm::{DualGemm, Nvfp4Matrix, bf16};

use crate::mlp::{Layer, Shape};

/// Files of a script, by name. The first is what Python runs.
pub type Script = &'static [(&'static str, &'static str)];

/// cuBLAS, Humming, dequantizing and Triton for a dual GEMM on a GPU.
pub const DUAL_GEMM: Script = &[("gpu.py", include_str!("../peers/gpu.py"))];

/// cuBLAS and Humming for a whole MLP on a GPU.
pub const MLP: Script =
    &[("mlp.py", include_str!("../peers/mlp.py")), ("gpu.py", include_str!("../peers/gpu.py"))];

/// torch for a whole MLP on the CPU.
pub const MLP_CPU: Script = &[("mlp_cpu.py", include_str!("../peers/mlp_cpu.py"))];

/// Some peers compile their kernels when they first see a shape.
const PATIENCE: Duration = Duration::from_secs(300);

/// One way of a peer to compute C, and its times.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Variant {
    /// ‖error‖ over ‖C‖, of the rows that were compared.
    pub relative_error: f64,
    /// Copies of its weights that it goes through.
    #[serde(default)]
    pub copies: usize,
    /// Bytes of one copy of its weights, where it tells.
    pub weight_bytes: Option<usize>,
    /// Seconds of each call.
    #[serde(skip)]
    pub times: Vec<f64>,
}

/// A peer on one shape.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Its name.
    pub peer: String,
    /// By name, or why it is not there.
    pub variants: Result<BTreeMap<String, Variant>, String>,
}

/// What the script says of itself.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct About {
    /// Name and title of each.
    pub peers: Vec<(String, String)>,
    /// Of the packages that the peers are made of.
    pub versions: BTreeMap<String, String>,
    /// The relative error up to which a result counts as right.
    pub tolerance: f64,
    /// Rows of C that are compared.
    pub rows: usize,
}

impl About {
    /// The versions, in a sentence for a page.
    pub fn fact(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!("peers: {}", versions.join(", "))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Request<'a> {
    Take(&'a Value),
    Prepare { prepare: &'a str },
    Time { time: &'a str },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Taken(#[allow(dead_code)] Value),
    Prepared(BTreeMap<String, Variant>),
    TimesUs(BTreeMap<String, Vec<f64>>),
    Failed(String),
}

/// Why there is no answer.
enum Failure {
    /// The script says so and goes on.
    Said(String),
    /// It ended, or hangs.
    Ended(String),
}

/// What there is beside us.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// What Python runs; `None`: the built-in script.
    pub script: Option<PathBuf>,
    /// Peers by name; all of them where empty.
    pub names: Vec<String>,
}

/// How the peers are to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which.
    pub choice: Choice,
    /// The built-in script.
    pub script: Script,
    /// What the script is told beside `--serve`.
    pub arguments: Vec<String>,
}

impl Settings {
    /// For a script on a GPU: the number of the device, launches of a graph at least, time of the replays of a round,
    /// and whether weights may stay in L2.
    pub fn on_device(
        choice: Choice,
        script: Script,
        ordinal: usize,
        nodes: usize,
        budget: Duration,
        warm: bool,
    ) -> Self {
        let options = [
            ("--device", ordinal.to_string()),
            ("--nodes", nodes.to_string()),
            ("--budget", budget.as_secs_f64().to_string()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let arguments = options.chain(warm.then(|| "--warm".to_owned())).collect();
        Settings { choice, script, arguments }
    }
}

/// The script, running.
pub struct Peers {
    settings: Settings,
    script: PathBuf,
    about: About,
    process: Option<Process>,
    /// Why a peer is not asked again.
    banned: BTreeMap<String, String>,
    /// With the script, if it is ours.
    operands: TempDir,
    /// What the script was given last: a name for people, and the request.
    problem: (String, Value),
}

impl Peers {
    /// Starts the script and waits for its first line.
    pub fn start(settings: Settings) -> anyhow::Result<Self> {
        let operands = tempfile::tempdir()?;
        let script = match &settings.choice.script {
            Some(script) if script.is_file() => script.clone(),
            Some(script) => bail!("--peers: {}: no such file", script.display()),
            None => {
                for (name, text) in settings.script {
                    let file = operands.path().join(name);
                    fs::write(&file, text).with_context(|| file.display().to_string())?;
                }
                let (first, _) = settings.script.first().context("a script without files")?;
                operands.path().join(first)
            }
        };
        let (process, about) = Process::start(&script, &settings)?;
        let known: Vec<&str> = about.peers.iter().map(|(name, _)| name.as_str()).collect();
        let names = &settings.choice.names;
        if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("--peer {name}: {} has {}", script.display(), known.join(", "));
        }
        Ok(Peers {
            settings,
            script,
            about,
            process: Some(process),
            banned: BTreeMap::new(),
            operands,
            problem: (String::new(), Value::Null),
        })
    }

    /// What the script says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Hands over the operands of a dual GEMM, and has each peer check its result there.
    pub fn prepare(&mut self, gemm: &DualGemm<'_>) -> anyhow::Result<Vec<Contender>> {
        for (name, matrix) in [("a", gemm.a().nvfp4()?), ("b1", gemm.b1()), ("b2", gemm.b2())] {
            self.write(&format!("{name}.codes"), matrix.codes())?;
            self.write(&format!("{name}.scales"), matrix.scales())?;
        }
        let problem = gemm.shape();
        let global = gemm.a().global_scale();
        let request = json!({
            "shape": [problem.m, problem.n, problem.k],
            "folder": self.operands.path(),
            "alpha1": global * gemm.b1().global_scale(),
            "alpha2": global * gemm.b2().global_scale(),
        });
        self.problem = (format!("{}x{}x{}", problem.m, problem.n, problem.k), request);
        self.prepare_all()
    }

    /// Hands over a layer and its input `x` \[rows, K\], and has each peer check its result there.
    pub fn prepare_layer(
        &mut self,
        layer: &Layer,
        x: &[bf16],
        rows: usize,
    ) -> anyhow::Result<Vec<Contender>> {
        let weights = layer.weights();
        let down = weights.down_proj().context("a layer without a down projection")?;
        let matrices = [("gate", weights.gate_proj()), ("up", weights.up_proj()), ("down", down)];
        for (name, matrix) in matrices {
            self.write(&format!("{name}.codes"), matrix.codes())?;
            self.write(&format!("{name}.scales"), matrix.scales())?;
        }
        let x: Vec<u8> = x.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
        self.write("x.bf16", &x)?;
        let Shape { k, n, h } = layer.shape();
        let request = json!({
            "layer": [k, n, h],
            "rows": rows,
            "folder": self.operands.path(),
            "globals": matrices.map(|(_, matrix): (_, &Nvfp4Matrix)| matrix.global_scale()),
        });
        self.problem = (format!("{}, M = {rows}", layer.shape()), request);
        self.prepare_all()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let file = self.operands.path().join(name);
        fs::write(&file, bytes).with_context(|| file.display().to_string())
    }

    fn prepare_all(&mut self) -> anyhow::Result<Vec<Contender>> {
        let chosen = &self.settings.choice.names;
        let wanted = |name: &String| chosen.is_empty() || chosen.contains(name);
        let names = self.about.peers.iter().map(|(name, _)| name).filter(|name| wanted(name));
        let contender =
            |peer: &String| Contender { peer: peer.clone(), variants: Ok(BTreeMap::new()) };
        let mut contenders: Vec<Contender> = names.map(contender).collect();
        let taken = self.take();
        for at in 0..contenders.len() {
            match &taken {
                Ok(()) => self.prepare_one(&mut contenders, at),
                Err(reason) => contenders[at].variants = Err(reason.clone()),
            }
        }
        Ok(contenders)
    }

    /// One round of times of all of them.
    pub fn round(&mut self, contenders: &mut [Contender]) {
        for at in 0..contenders.len() {
            if contenders[at].variants.is_err() {
                continue;
            }
            let peer = contenders[at].peer.clone();
            let times = match self.ask(&Request::Time { time: &peer }) {
                Ok(Answer::TimesUs(times)) => times,
                other => {
                    self.leave_out(contenders, at, other);
                    continue;
                }
            };
            for (name, times) in times {
                if let Some(variant) =
                    contenders[at].variants.as_mut().ok().and_then(|all| all.get_mut(&name))
                {
                    variant.times.extend(times.iter().map(|us| us * 1e-6));
                }
            }
        }
    }

    fn prepare_one(&mut self, contenders: &mut [Contender], at: usize) {
        let peer = contenders[at].peer.clone();
        if let Some(reason) = self.banned.get(&peer) {
            contenders[at].variants = Err(reason.clone());
            return;
        }
        match self.ask(&Request::Prepare { prepare: &peer }) {
            Ok(Answer::Prepared(variants)) => {
                // After a new start, times of before stay.
                if let Ok(known) = &mut contenders[at].variants {
                    for (name, variant) in variants {
                        let times = known.remove(&name).map(|old| old.times).unwrap_or_default();
                        known.insert(name, Variant { times, ..variant });
                    }
                }
            }
            other => self.leave_out(contenders, at, other),
        }
    }

    /// Notes why a peer is out. Where it took the script with it, starts that again and prepares those before it.
    fn leave_out(
        &mut self,
        contenders: &mut [Contender],
        at: usize,
        outcome: Result<Answer, Failure>,
    ) {
        let ended = match outcome {
            Err(Failure::Ended(reason)) => reason,
            Err(Failure::Said(reason)) => {
                contenders[at].variants = Err(reason);
                return;
            }
            Ok(_) => "an answer to another question".to_owned(),
        };
        self.process = None;
        let reason = format!("on {}: {ended}", self.problem.0);
        self.banned.insert(contenders[at].peer.clone(), reason.clone());
        contenders[at].variants = Err(reason);
        match Process::start(&self.script, &self.settings) {
            Ok((process, _)) => self.process = Some(process),
            Err(error) => {
                let reason = format!("{}: {error:#}", self.script.display());
                for (name, _) in &self.about.peers {
                    self.banned.entry(name.clone()).or_insert_with(|| reason.clone());
                }
            }
        }
        let taken = self.take();
        let had_variants =
            |contender: &Contender| contender.variants.as_ref().is_ok_and(|all| !all.is_empty());
        for before in 0..contenders.len() {
            match &taken {
                Ok(()) if had_variants(&contenders[before]) => {
                    self.prepare_one(contenders, before);
                }
                Ok(()) => {}
                Err(reason) => contenders[before].variants = Err(reason.clone()),
            }
        }
    }

    fn take(&mut self) -> Result<(), String> {
        let request = self.problem.1.clone();
        match self.ask(&Request::Take(&request)) {
            Ok(_) => Ok(()),
            Err(Failure::Said(reason) | Failure::Ended(reason)) => Err(reason),
        }
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<Answer, Failure> {
        let Some(process) = &mut self.process else {
            return Err(Failure::Said("the script is not running".to_owned()));
        };
        let answer = process.ask(request).map_err(|error| Failure::Ended(format!("{error:#}")))?;
        match answer {
            Answer::Failed(reason) => Err(Failure::Said(reason)),
            answer => Ok(answer),
        }
    }
}

/// The process, and what it prints line by line.
struct Process {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    fn start(script: &Path, settings: &Settings) -> anyhow::Result<(Self, About)> {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(&python);
        command
            .arg(script)
            .arg("--serve")
            .args(&settings.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| python.clone())?;
        let (Some(questions), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{python}: no pipe to it");
        };
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut process = Process { child, questions, answers };
        let about = process.answer().with_context(|| script.display().to_string())?;
        Ok((process, serde_json::from_str(&about)?))
    }

    fn ask(&mut self, request: &Request<'_>) -> anyhow::Result<Answer> {
        // A process that has ended shows when it does not answer.
        let _ = writeln!(self.questions, "{}", serde_json::to_string(request)?);
        let _ = self.questions.flush();
        let line = self.answer()?;
        serde_json::from_str(&line).map_err(|error| anyhow!("{error} in {line:?}"))
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("no answer within {} s", PATIENCE.as_secs())
            }
            // Its pipe is closed: it has ended, or is about to.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("the script ended ({}); its stderr has more", self.child.wait()?)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
