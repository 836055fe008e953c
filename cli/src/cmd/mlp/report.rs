//! What `nvfp4 mlp` reports.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use nvfp4_dual_gemm::{DType, Engine, Stage};
use nvfp4_harness::check::Check;
use nvfp4_harness::units;

use crate::checked;
use crate::ui::output::{Output, Shown, Style};
use crate::warnings::{self, Clipped};

#[derive(Serialize)]
pub struct Report {
    pub checkpoint: Shown,
    /// Those that were opened.
    pub files: Vec<Shown>,
    /// `None`: there is none, and nothing but tensors and options rules the arithmetic.
    pub config: Option<Shown>,
    pub prefix: String,
    pub convention: String,
    /// What the checkpoint is meant for: W4A4 or W4A16.
    pub scheme: String,
    /// Whether it says so; else it is taken for W4A4.
    pub scheme_stated: bool,
    /// M, N, K, batch of gate and up.
    pub shape: [usize; 4],
    /// Whether the down projection was computed.
    pub down: bool,
    pub bias: bool,
    pub glu: String,
    /// The one that ran: W4A4 or W4A16.
    pub precision: String,
    /// nvfp4, f16 or bf16.
    pub activations: String,
    pub out_dtype: String,
    #[serde(flatten)]
    pub scales: Scales,
    pub backend: String,
    pub isa: Option<String>,
    pub reason: String,
    pub threads: usize,
    pub time_s: f64,
    pub stages: Stages,
    /// Of h, where y is another. `None`: not asked for, or the oracle's own.
    pub check_h: Option<Check>,
    /// Of y, with what steps of the quantization of h explain.
    pub check: Option<Check>,
    /// Relative distance of rows of y from the oracle, such steps included.
    pub end_to_end: Option<f64>,
    /// Values of y that are infinite or NaN.
    pub non_finite: usize,
    /// What the input scale clips of x, where it is quantized.
    pub saturation: Option<Clipped>,
    /// What the scale of h clips of it, where it is quantized.
    pub saturation_h: Option<Clipped>,
    /// `None`: a wrong y was not written.
    pub output: Option<Shown>,
    pub output_shape: Vec<usize>,
}

/// Of activations that are quantized.
#[derive(Default, Serialize)]
pub struct Scales {
    pub alpha_gate: Option<f64>,
    pub alpha_up: Option<f64>,
    /// `None`: each row has its own.
    pub input_global_scale: Option<f32>,
    /// calibrated, dynamic, per row or given: where it comes from.
    pub input_scale: Option<&'static str>,
    pub input_scale_calibrated: bool,
    /// The same of h.
    pub down_input_scale: Option<&'static str>,
    /// Where it is calibrated.
    pub down_input_global_scale: Option<f32>,
}

/// Seconds of each stage.
#[derive(Default)]
pub struct Stages(BTreeMap<Stage, f64>);

impl Stages {
    pub fn add(&mut self, stage: Stage, seconds: f64) {
        *self.0.entry(stage).or_default() += seconds;
    }

    fn text(&self) -> Option<String> {
        let parts = self.0.iter().map(|(stage, &s)| format!("{stage} {}", units::time(s)));
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(stage, seconds)| {
            let key = match stage {
                Stage::X => "x",
                Stage::GateUp => "gate_up",
                Stage::H => "h",
                _ => "down",
            };
            (key, seconds)
        }))
    }
}

fn origin(scale: &str, what: &str) -> String {
    match scale {
        "calibrated" => "of the checkpoint".to_owned(),
        "dynamic" => format!("from amax of {what}"),
        "per row" => format!("from amax of each row of {what}"),
        _ => "as given".to_owned(),
    }
}

fn scale_text(scale: &str, global: Option<f32>, what: &str) -> String {
    match global {
        Some(global) => format!("{global:e} {}", origin(scale, what)),
        None => origin(scale, what),
    }
}

pub fn print(
    out: &Output,
    report: &Report,
    engine: &Engine,
    dtype: DType,
    assumed: bool,
) -> anyhow::Result<()> {
    let [m, n, k, _] = report.shape;
    let columns = report.output_shape.last().copied().unwrap_or(n);
    let why = if assumed { " (no config.json found)" } else { "" };
    let sizes = match report.down {
        true => format!("{m} x {k}→{n}→{columns}"),
        false => format!("{m}x{n}x{k}, gate and up only"),
    };
    let bias = if report.bias { ", biases" } else { "" };
    out.line(format!(
        "{}  {} ({}), {sizes}, glu {}{why}{bias}",
        Style::Bold.paint(&report.prefix),
        report.checkpoint,
        report.convention,
        report.glu
    ))?;
    let meant = match (report.precision == report.scheme, report.scheme_stated) {
        (true, _) => String::new(),
        (false, true) => format!("; the checkpoint is meant for {}", report.scheme),
        (false, false) => "; the checkpoint does not say what it is meant for".to_owned(),
    };
    let mut fields = vec![(
        "precision",
        format!("{}, activations in {}{meant}", report.precision, report.activations),
    )];
    let scales = &report.scales;
    if let Some(scale) = scales.input_scale {
        fields.push(("input scale", scale_text(scale, scales.input_global_scale, "x")));
    }
    if let Some(scale) = scales.down_input_scale {
        fields.push(("scale of h", scale_text(scale, scales.down_input_global_scale, "h")));
    }
    if let (Some(gate), Some(up)) = (scales.alpha_gate, scales.alpha_up) {
        fields.push(("alphas", format!("gate {gate:.6e}, up {up:.6e}")));
    }
    fields.push(("backend", format!("{engine}: {}", report.reason)));
    let threads = units::count(report.threads, "thread");
    fields.push(("time", format!("{}, one run on {threads}", units::time(report.time_s))));
    if let Some(stages) = report.stages.text() {
        fields.push(("stages", stages));
    }
    if let Some(check) = &report.check_h {
        let mut of_h = checked::fields(Some(check), engine.backend());
        if let Some(first) = of_h.first_mut() {
            first.0 = "check of h";
        }
        fields.extend(of_h);
    }
    fields.extend(checked::fields(report.check.as_ref(), engine.backend()));
    if let Some(distance) = report.end_to_end.filter(|distance| distance.is_finite()) {
        fields.push((
            "",
            format!("rows of y within {distance:.1e} of the exact ones, run from x to y"),
        ));
    }
    if let Some(output) = &report.output {
        fields.push((
            "output",
            format!("{output}, y {} {:?}", report.out_dtype, report.output_shape),
        ));
    }
    let clipped = report.saturation.iter().chain(&report.saturation_h);
    let clipped = clipped.flat_map(Clipped::sentences);
    let non_finite = warnings::of_non_finite(report.non_finite, m * columns, "y", dtype);
    fields.extend(clipped.chain(non_finite).map(|warning| ("warning", warning)));
    out.fields(&fields)
}
