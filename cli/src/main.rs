//! The `nvfp4` command: parses arguments, runs one command, turns its outcome into an exit code.
//!
//! Exit code 0: success, checks included; 1: failure; 2: arguments that make no sense.

mod args;
mod checked;
mod cmd;
mod files;
mod select;
mod ui;
mod warnings;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cmd::{doctor, generate, mlp, quantize, run, verify};
use ui::output::Output;

/// C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ) in NVFP4: run it, check it, measure it.
#[derive(Debug, Parser)]
#[command(
    name = "nvfp4",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  nvfp4 run --shape 256x4096x7168          operands made up, run, checked
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o y.safetensors
  nvfp4 verify --suite contest             every CPU path against the exact oracle
  nvfp4 bench --suite decode               times over the measured roofline
  nvfp4 doctor                             what this machine can run

Environment:
  NVFP4_CPU_ISA=NAME    force an instruction set, one of those that doctor lists
  NVFP4_CPU_AMX=off     do without AMX
  RAYON_NUM_THREADS=N   threads to use"
)]
struct Cli {
    /// Print one JSON object on stdout, and nothing else there.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Mlp(mlp::Args),
    Quantize(quantize::Args),
    Generate(generate::Args),
    Verify(verify::Args),
    #[cfg(feature = "bench")]
    Bench(cmd::bench::Args),
    Doctor(doctor::Args),
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Command::Run(_) => "run",
            Command::Mlp(_) => "mlp",
            Command::Quantize(_) => "quantize",
            Command::Generate(_) => "generate",
            Command::Verify(_) => "verify",
            #[cfg(feature = "bench")]
            Command::Bench(_) => "bench",
            Command::Doctor(_) => "doctor",
        }
    }

    fn run(&self, out: &Output) -> anyhow::Result<()> {
        match self {
            Command::Run(args) => run::run(args, out),
            Command::Mlp(args) => mlp::run(args, out),
            Command::Quantize(args) => quantize::run(args, out),
            Command::Generate(args) => generate::run(args, out),
            Command::Verify(args) => verify::run(args, out),
            #[cfg(feature = "bench")]
            Command::Bench(args) => cmd::bench::run(args, out),
            Command::Doctor(args) => doctor::run(args, out),
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // Without a handler, files as large as a checkpoint would be left; 130 is what shells report. Under
    // nohup, and where signals are ignored otherwise, they stay so.
    let _ = ctrlc::try_set_handler(|| {
        nvfp4_dual_gemm::checkpoint::remove_temporaries();
        std::process::exit(130);
    });
    let out = Output::new(cli.command.name(), cli.json);
    match cli.command.run(&out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            let sentence = sentence(&error);
            complain(&sentence);
            if !out.printed_json() {
                let _ = out.json_error(&sentence);
            }
            ExitCode::FAILURE
        }
    }
}

/// Help and version go to stdout; a mistake becomes one sentence on stderr.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    // clap writes a paragraph, tips and a usage; the first paragraph says what is wrong.
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(|p| {
        p.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    let sentence = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find_map(|p| p.strip_prefix("tip: ").map(|tip| format!(" ({tip})")));
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    complain(&format!("{sentence}{}", tip.unwrap_or_default()));
    if std::env::args_os().any(|arg| arg == "--json") {
        let _ = Output::new("", true).json_error(sentence);
    }
    ExitCode::from(2)
}

/// The error and its causes; the library's errors quote their causes already.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence += &format!(": {cause}");
        }
    }
    sentence
}

fn complain(sentence: &str) {
    // A closed stderr is no reason to fail in another way.
    let _ = writeln!(io::stderr(), "error: {}", sentence.trim_end());
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
