//! `nvfp4 mlp`: the MLP of a checkpoint's layer on given activations.

mod report;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use nvfp4_dual_gemm::checkpoint::tensors::{self, TensorFile};
use nvfp4_dual_gemm::checkpoint::{Checkpoint, LayerOptions};
use nvfp4_dual_gemm::{
    Activations, DType, DType16, Element, Error, GemmShape, InputScale, MlpLayer, MlpWeights,
    Operand, Precision, Spec,
};
use nvfp4_harness::mlp::{self, MlpCheck};
use nvfp4_harness::notation::glu_text;
use nvfp4_harness::system;

use self::report::{Report, Scales, Stages};
use crate::args::{BackendArgs, CheckArgs, ComputeArgs, with_dtype};
use crate::ui::output::{Output, Shown};
use crate::ui::progress::Progress;
use crate::warnings::{self, Clipped};
use crate::{checked, files};

/// Run the MLP of an NVFP4 layer of a checkpoint
///
/// y = h·down_projᵀ of h = glu(x·gate_projᵀ, x·up_projᵀ), with biases where the layer has them. In W4A4, x and h are
/// quantized with the calibrated global scales of the checkpoint, or with those of their own largest values where there
/// are none: --input-scale chooses. Weight-only layers run in W4A16, with x and h in 16 bits.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
CHECKPOINT is a safetensors file, an index (model.safetensors.index.json) or a directory, in ModelOpt's
or compressed-tensors' convention. Tensor `x` is F32, F16 or BF16 [M,K] or [..., M,K]; the result is
tensor `y` with the rows of down_proj, or of gate_proj with --only gate-up, in place of K.

Examples:
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o y.safetensors
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o y.safetensors --input-scale dynamic
  nvfp4 mlp model/ --prefix model.layers.0.mlp --input x.safetensors -o h.safetensors --only gate-up
  nvfp4 mlp model/ --list")]
#[command(mut_arg("glu", |glu| {
    glu.help("swiglu, gpt-oss, geglu-tanh or clamped:LIMIT,SLOPE,OFFSET [default: that of config.json, or swiglu]")
}))]
#[command(mut_arg("out_dtype", |dtype| dtype.help("Type of y: f16, bf16 or f32")))]
#[command(mut_arg("check", |check| {
    check.help("Rows of y to check against the exact oracle: auto (about a second's worth), all, or a number")
}))]
pub struct Args {
    /// Safetensors file, index or directory
    checkpoint: PathBuf,
    /// Module that holds gate_proj, up_proj and down_proj, such as model.layers.0.mlp
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    prefix: Option<String>,
    /// Safetensors file with the activations, tensor `x`
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    input: Option<PathBuf>,
    /// Safetensors file to write, tensor `y`
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// List the layers of the checkpoint with precision and sizes K→N→H, and do nothing else
    #[arg(long, conflicts_with_all = [
        "prefix", "input", "output", "backend", "kernel", "glu", "input_scale", "ignore_key", "out_dtype", "check",
        "threads", "only", "precision",
    ])]
    list: bool,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Compute h = glu(x·gate_projᵀ, x·up_projᵀ) alone, without the down projection
    #[arg(long, value_name = "PART")]
    only: Option<Only>,
    /// Precision: w4a4 quantizes x and h to NVFP4; w4a16 leaves x in f16 or bf16, and rounds f32 to bf16 [default: the
    /// one that the checkpoint is meant for]
    #[arg(long)]
    precision: Option<PrecisionArg>,
    /// Global scale of x: calibrated (that of the checkpoint, if it has one), dynamic (amax(x)/2688), per-row
    /// (amax(row)/2688), or a number, with which values up to 2688 times it can be represented. h gets the same but for
    /// a number, which leaves it calibrated [default: calibrated, in w4a4]
    #[arg(long, value_name = "SCALE", allow_hyphen_values = true)]
    input_scale: Option<InputScale>,
    /// Key of config.json to read the layer without, although it may change the arithmetic; can be repeated
    #[arg(long, value_name = "KEY")]
    ignore_key: Vec<String>,
    #[command(flatten)]
    check: CheckArgs,
}

/// A part of the MLP.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Only {
    /// Gate and up projections
    GateUp,
}

/// The precisions by name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PrecisionArg {
    /// Weights and activations in NVFP4
    W4a4,
    /// Weights in NVFP4, activations in 16 bits
    W4a16,
}

pub fn run(args: &Args, out: &Output) -> anyhow::Result<()> {
    if args.list {
        return list(args, out);
    }
    args.compute.use_threads()?;
    with_dtype!(args.compute.out_dtype, T => with_type::<T>(args, out))
}

fn list(args: &Args, out: &Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Layer {
        prefix: String,
        /// W4A4 or W4A16.
        precision: Option<String>,
        /// K, N, and H where there is a down projection.
        shape: Option<Vec<usize>>,
        /// Why there is no down projection, as far as headers tell.
        no_down: Option<String>,
        /// Why the layer cannot be read.
        refused: Option<String>,
    }
    #[derive(Serialize)]
    struct Listing {
        checkpoint: Shown,
        layers: Vec<String>,
        outlines: Vec<Layer>,
    }
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let layers = checkpoint.layers();
    if layers.is_empty() {
        bail!("{}: no gate and up projections in this checkpoint", args.checkpoint.display());
    }
    let mut outlines = Vec::new();
    for prefix in layers.iter().cloned() {
        let outlined = match checkpoint.outline(&prefix) {
            Ok(outline) => {
                let sizes = [outline.in_features, outline.intermediate_features];
                let shape = sizes.into_iter().chain(outline.out_features).collect();
                let precision = Some(outline.scheme.to_string());
                let no_down = outline.no_down.map(|reason| reason.to_string());
                Layer { prefix, precision, shape: Some(shape), no_down, refused: None }
            }
            Err(error) => {
                let refused = Some(error.to_string());
                Layer { prefix, precision: None, shape: None, no_down: None, refused }
            }
        };
        out.line(match &outlined {
            Layer { prefix, precision: Some(precision), shape: Some(shape), no_down, .. } => {
                let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
                let only = no_down.as_ref().map(|why| format!(", gate and up only: {why}"));
                let only = only.unwrap_or_default();
                format!("{prefix}  {precision}  {}{only}", sizes.join("→"))
            }
            Layer { prefix, refused, .. } => {
                format!("{prefix}  refused: {}", refused.as_deref().unwrap_or_default())
            }
        })?;
        outlines.push(outlined);
    }
    out.json(true, Listing { checkpoint: Shown::from(args.checkpoint.as_path()), layers, outlines })
}

fn with_type<T: Element>(args: &Args, out: &Output) -> anyhow::Result<()> {
    // clap asks for all three unless --list is given.
    let prefix = args.prefix.as_ref().context("--prefix is missing")?;
    let input = args.input.as_ref().context("--input is missing")?;
    let output = args.output.as_ref().context("--output is missing")?;
    let engine = args.backend.one()?;
    files::ensure_writable(output, &[input.as_path(), &args.checkpoint])?;
    let progress = Progress::spinner(format!("reading {}", args.checkpoint.display()));
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    // The files of a directory or an index are known only now.
    files::ensure_outside(output, &checkpoint)?;
    let layer = checkpoint.layer_with(prefix, &args.layer_options())?;
    let weights = args.weights(prefix, &layer)?;

    let file = TensorFile::open(input)?;
    let (shape, x) = file.values::<f32>("x")?;
    let k = weights.in_features();
    let (&last, leading) = match shape.split_last() {
        Some((last, leading)) if !leading.is_empty() => (last, leading),
        _ => bail!("{}: tensor x is {shape:?}, expected [M, {k}]", input.display()),
    };
    if last != k {
        bail!(
            "{}: tensor x is {shape:?}, but {prefix} of {} takes [M, {k}]",
            input.display(),
            args.checkpoint.display()
        );
    }
    let rows = x.len() / k;
    let precision = args.precision(&weights, file.dtype("x")?)?;
    let of_x = |error: Error| match error.operand() {
        // The alphas of gate and up are made with the scale of x.
        Some(Operand::A | Operand::B1 | Operand::B2) => {
            anyhow::Error::from(error).context(format!("{}: tensor x", input.display()))
        }
        // Others are of h, of the checkpoint or of the device, and name that; x has no part in them.
        _ => anyhow::Error::from(error),
    };
    let quantized = match precision {
        Precision::W4A4 { scale } => {
            progress.message("quantizing x");
            Some(weights.quantize(&x, rows, scale).map_err(of_x)?)
        }
        _ => None,
    };
    let (n, columns) = (weights.intermediate_features(), weights.out_features());
    system::ensure_fits(&GemmShape { m: rows, n: n.max(columns), k, batch: 1 }, T::DTYPE.size())?;
    progress.message(format!("loading into {engine}"));
    let ready = engine.load(weights, &Spec::default().precision(precision))?;
    progress.message(format!("running on {engine}"));
    let mut y = vec![T::default(); rows * columns];
    let mut stages = Stages::default();
    let start = Instant::now();
    ready.run(&x, rows, &mut y).map_err(of_x)?;
    let time_s = start.elapsed().as_secs_f64();
    if rows > 0 {
        // A second time, as a wait after each stage is no part of a run.
        let mut again = vec![T::default(); y.len()];
        let mut clock = Instant::now();
        ready.run_in_stages(&x, rows, &mut again, |stage| {
            stages.add(stage, clock.elapsed().as_secs_f64());
            clock = Instant::now();
        })?;
    }
    let saturation = ready.saturation(&x, rows)?;
    progress.message("checking against the oracle");
    let check = mlp::check(&ready, &x, rows, &y, args.check.check)?;
    let mut output_shape = leading.to_vec();
    output_shape.push(columns);
    let passed = check.as_ref().is_none_or(|check| check.pass);
    let output = checked::keep(passed, Some(output), |path| {
        tensors::write_output(path, "y", &output_shape, &y)
    })?;
    drop(progress);

    let weights = ready.weights();
    let config = files::checkpoint_directory(&args.checkpoint).join("config.json");
    let (of_h, of_y) = match &check {
        Some(check) => (check.h.clone(), Some(check.y.clone())),
        None => (None, None),
    };
    let report = Report {
        checkpoint: Shown::from(args.checkpoint.as_path()),
        files: checkpoint.files().map(Shown::from).collect(),
        config: config.is_file().then(|| Shown::from(config.as_path())),
        prefix: prefix.clone(),
        convention: layer.convention.to_string(),
        scheme: layer.scheme.to_string(),
        scheme_stated: layer.scheme_stated,
        shape: [rows, n, k, 1],
        down: weights.down_proj().is_some(),
        bias: weights.biases().is_some() || weights.down_bias().is_some(),
        glu: glu_text(&layer.glu),
        precision: precision.to_string(),
        activations: match precision {
            Precision::W4A16 { round } => round.to_string(),
            _ => "nvfp4".to_owned(),
        },
        out_dtype: args.compute.out_dtype.to_string(),
        scales: scales(&layer, weights, precision, quantized.as_ref())?,
        backend: engine.backend().to_string(),
        isa: engine.isa().map(|isa| isa.to_string()),
        reason: engine.reason().to_owned(),
        threads: rayon::current_num_threads(),
        time_s,
        stages,
        check_h: of_h,
        check: of_y,
        end_to_end: check.as_ref().and_then(|check| check.end_to_end),
        non_finite: warnings::non_finite(&y),
        saturation: saturation.x.map(|found| Clipped::of("x", found)),
        saturation_h: saturation.h.map(|found| Clipped::of("h", found)),
        output,
        output_shape,
    };
    let assumed = args.compute.glu.is_none() && report.config.is_none();
    report::print(out, &report, &engine, args.compute.out_dtype, assumed)?;
    out.json(passed, &report)?;
    check.as_ref().map_or(Ok(()), MlpCheck::require)
}

impl Args {
    fn layer_options(&self) -> LayerOptions {
        let options = match self.only {
            Some(Only::GateUp) => LayerOptions::new().gate_up_only(),
            None => LayerOptions::new(),
        };
        let options = self.compute.glu.iter().fold(options, |options, &glu| options.glu(glu));
        self.ignore_key.iter().fold(options, |options, key| options.ignore(key))
    }

    /// Of the whole MLP, unless gate and up alone are asked for.
    fn weights(&self, prefix: &str, layer: &MlpLayer) -> anyhow::Result<MlpWeights> {
        if let (None, Some(reason)) = (self.only, &layer.no_down) {
            bail!("{prefix}: {reason}; --only gate-up computes what comes before it");
        }
        Ok(layer.weights()?)
    }

    /// What is asked for, or else what the weights are meant for. 16-bit x keeps its type.
    fn precision(&self, weights: &MlpWeights, x: Option<DType>) -> anyhow::Result<Precision> {
        let scale = self.input_scale;
        let w4a16 = || Precision::W4A16 { round: DType16::default().of(x.unwrap_or(DType::F32)) };
        Ok(match (self.precision, scale) {
            (Some(PrecisionArg::W4a16), Some(scale)) => {
                bail!("--input-scale {scale} quantizes x, which --precision w4a16 does not")
            }
            (Some(PrecisionArg::W4a16), None) => w4a16(),
            (Some(PrecisionArg::W4a4), scale) => {
                Precision::W4A4 { scale: scale.unwrap_or_default() }
            }
            (None, Some(scale)) => Precision::W4A4 { scale },
            (None, None) => match weights.precision() {
                Precision::W4A16 { .. } => w4a16(),
                other => other,
            },
        })
    }
}

/// Of x, where it is quantized.
fn scales(
    layer: &MlpLayer,
    weights: &MlpWeights,
    precision: Precision,
    x: Option<&Activations>,
) -> anyhow::Result<Scales> {
    let Precision::W4A4 { scale } = precision else { return Ok(Scales::default()) };
    let origin = |scale, calibrated: bool| match scale {
        InputScale::Calibrated if calibrated => "calibrated",
        InputScale::Calibrated | InputScale::Dynamic => "dynamic",
        InputScale::PerRow => "per row",
        _ => "given",
    };
    let of_x = match scale {
        InputScale::Calibrated => layer.input_global_scale()?.is_some(),
        _ => false,
    };
    let of_h = match scale.of_down() {
        InputScale::Calibrated if weights.down_proj().is_some() => weights.down_input_scale()?,
        _ => None,
    };
    let alphas = x.map(|x| weights.gemm(x).map(|gemm| (gemm.alpha1(), gemm.alpha2())));
    let alphas = alphas.transpose()?;
    let origin_of_x = origin(scale, of_x);
    Ok(Scales {
        alpha_gate: alphas.map(|(gate, _)| gate),
        alpha_up: alphas.map(|(_, up)| up),
        input_global_scale: x
            .filter(|x| x.row_scales().is_none())
            .map(|x| x.matrix().global_scale()),
        input_scale: Some(origin_of_x),
        input_scale_calibrated: origin_of_x == "calibrated",
        down_input_scale: weights.down_proj().map(|_| origin(scale.of_down(), of_h.is_some())),
        down_input_global_scale: of_h,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Mlp {
        #[command(flatten)]
        _args: Args,
    }

    #[test]
    fn a_list_takes_no_other_option() {
        let command = Mlp::command();
        let others = command
            .get_arguments()
            .filter(|arg| !["checkpoint", "list", "help"].contains(&arg.get_id().as_str()));
        let mut tried = 0;
        for arg in others {
            let option = format!("--{}", arg.get_long().unwrap());
            let value = match arg.get_id().as_str() {
                "backend" => "cpu",
                "glu" => "swiglu",
                "out_dtype" => "f32",
                "input_scale" => "dynamic",
                "only" => "gate-up",
                "precision" => "w4a4",
                "check" | "threads" => "1",
                _ => "x",
            };
            let error = Mlp::try_parse_from(["mlp", "model", "--list", &option, value]);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ArgumentConflict, "{option}");
            tried += 1;
        }
        assert!(tried >= 13, "{tried}");
    }
}
