//! Names and shapes under which the projections of experts and fused projections are stored.

use nvfp4_dual_gemm::checkpoint::{Convention, Dtype};
use nvfp4_dual_gemm::{Checkpoint, DualGemm, InputScale};

use crate::parts::{self, *};

const EXPERTS: &str = "model.layers.0.mlp.experts";

#[test]
fn the_number_of_an_expert_comes_before_or_after_its_projection() {
    for convention in CONVENTIONS {
        for [gate, up] in [["gate_proj", "up_proj"], ["w1", "w3"]] {
            let mut all = Vec::new();
            for e in 0..12 {
                for (name, seed) in [(gate, 2 * e), (up, 2 * e + 1), ("down_proj", 0)] {
                    // Expert 5 is named the other way.
                    let module = match e {
                        5 => format!("{EXPERTS}.{e}.{name}"),
                        _ => format!("{EXPERTS}.{name}.{e}"),
                    };
                    all.extend(projection(&module, convention, seed));
                }
            }
            let checkpoint = open(&all);
            for e in [0, 1, 5, 10, 11] {
                let layer = checkpoint.layer(&format!("{EXPERTS}.{e}")).unwrap();
                assert_layer(&layer, [2 * e, 2 * e + 1]);
                assert_eq!(layer.convention, convention);
            }
            let listed: Vec<String> = (0..12).map(|e| format!("{EXPERTS}.{e}")).collect();
            assert_eq!(checkpoint.layers(), listed);
            let error = checkpoint.layer(&format!("{EXPERTS}.12")).unwrap_err().to_string();
            assert!(error.contains("no MLP layer") && error.contains("experts.1"), "{error}");
        }
    }
    // A fused one, and experts at the top of the names.
    let fused = fused_parts("experts.gate_up_proj.3", &[], &[global(7)]);
    let checkpoint = open(&fused);
    assert_eq!(checkpoint.layers(), ["experts.3"]);
    let layer = checkpoint.layer("experts.3").unwrap();
    assert_eq!((layer.gate_proj.codes(), layer.up_proj.codes()), (&codes(1)[..], &codes(2)[..]));
    let checkpoint = open(
        &[
            projection("gate_proj.0", Convention::ModelOpt, 1),
            projection("up_proj.0", Convention::ModelOpt, 2),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>(),
    );
    assert_eq!(checkpoint.layers(), ["0"]);
    assert_layer(&checkpoint.layer("0").unwrap(), [1, 2]);
}

#[test]
fn prefixes_are_listed_by_number() {
    let mut all = Vec::new();
    for l in [10, 2, 0, 1, 11] {
        all.extend(layer(&format!("model.layers.{l}.mlp")));
    }
    all.extend(layer("model.layers.2.mlp.experts.10"));
    all.extend(layer("model.layers.2.mlp.experts.9"));
    assert_eq!(
        open(&all).layers(),
        [
            "model.layers.0.mlp",
            "model.layers.1.mlp",
            "model.layers.2.mlp",
            "model.layers.2.mlp.experts.9",
            "model.layers.2.mlp.experts.10",
            "model.layers.10.mlp",
            "model.layers.11.mlp",
        ]
    );
}

/// Glu number 1 and up number 2 in one module, in ModelOpt's names.
fn fused_parts(module: &str, shape: &[usize], globals: &[f32]) -> Vec<Part> {
    vec![
        part(
            &format!("{module}.weight"),
            Dtype::U8,
            &[2 * N, K / 2],
            [codes(1), codes(2)].concat(),
        ),
        part(
            &format!("{module}.weight_scale"),
            Dtype::F8_E4M3,
            &[2 * N, K / 16],
            [scales(1), scales(2)].concat(),
        ),
        floats(&format!("{module}.weight_scale_2"), shape, globals),
    ]
}

#[test]
fn a_fused_projection_may_have_two_global_scales() {
    for shape in [&[2usize][..], &[2, 1]] {
        let mut all = fused_parts("l.gate_up_proj", shape, &[global(1), global(2)]);
        all.push(floats("l.gate_up_proj.input_scale", shape, &[0.25, 0.5]));
        let checkpoint = open(&all);
        let layer = checkpoint.layer("l").unwrap();
        assert_layer(&layer, [1, 2]);
        assert_eq!((layer.gate_input_global, layer.up_input_global), (Some(0.25), Some(0.5)));
        assert_eq!(layer.input_global_scale().unwrap(), Some(0.5));
    }
    // Divisors: the smaller one is the larger multiplier.
    let mut all = fused_parts("l.gate_up_proj", &[2], &[1.0 / global(1), 1.0 / global(2)]);
    all[0].name = "l.gate_up_proj.weight_packed".to_owned();
    all[2].name = "l.gate_up_proj.weight_global_scale".to_owned();
    all.push(floats("l.gate_up_proj.input_global_scale", &[2], &[4.0, 16.0]));
    let checkpoint = open(&all);
    let layer = checkpoint.layer("l").unwrap();
    assert_layer(&layer, [1, 2]);
    assert_eq!(layer.input_global_scale().unwrap(), Some(0.25));

    // One that is bad is named with its number, and so is one of the input.
    let mut all = fused_parts("l.gate_up_proj", &[2], &[0.5, 0.0]);
    let error = refused(&all, "l");
    assert!(error.contains("weight_scale_2 holds 0e0, expected a finite number > 0"), "{error}");
    all[2] = floats("l.gate_up_proj.weight_scale_2", &[2], &[0.5, 0.25]);
    all.push(floats("l.gate_up_proj.input_scale", &[2], &[0.5, f32::INFINITY]));
    let checkpoint = open(&all);
    let layer = checkpoint.layer("l").unwrap();
    let error = layer.input_global_scale().unwrap_err().to_string();
    assert!(error.contains("gate_up_proj.input_scale holds inf"), "{error}");
    let x = [1.0f32; K];
    assert_eq!(
        layer.quantize_input_with(&x, 1, InputScale::Fixed(2.0)).unwrap().matrix().global_scale(),
        2.0
    );

    for (shape, count) in [(&[3usize][..], 3), (&[1, 2], 2), (&[2, 2], 4), (&[0], 0)] {
        let error = refused(&fused_parts("l.gate_up_proj", shape, &vec![1.0; count]), "l");
        assert!(error.contains("expected [], [1] or [2], gate first"), "{error}");
    }
    // Two belong to nothing but a fused projection.
    let mut all = parts::layer("l");
    all[2] = floats("l.gate_proj.weight_scale_2", &[2], &[1.0, 1.0]);
    assert!(refused(&all, "l").ends_with("weight_scale_2 is F32 [2], expected [] or [1]"));
}

/// Ends of the names of a stack: codes, scales, global scales of weight and input.
const ENDS: [([&str; 4], Convention); 6] = [
    ([".weight", ".weight_scale", ".weight_scale_2", ".input_scale"], Convention::ModelOpt),
    (
        [".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale"],
        Convention::CompressedTensors,
    ),
    (["", "_weight_scale", "_weight_scale_2", "_input_scale"], Convention::ModelOpt),
    (["", "_scale", "_scale_2", "_input_scale"], Convention::ModelOpt),
    (["_weight", "_weight_scale", "_weight_scale_2", "_input_scale"], Convention::ModelOpt),
    (
        ["_weight_packed", "_weight_scale", "_weight_global_scale", "_input_global_scale"],
        Convention::CompressedTensors,
    ),
];

const E: usize = 5;

/// A stack whose expert e has the projections number `seeds(e)`, one after the other.
fn stack(
    base: &str,
    ends: [&str; 4],
    seeds: impl Fn(usize) -> Vec<usize>,
    global: (&[usize], &[f32]),
) -> Vec<Part> {
    let all = |of: fn(usize) -> Vec<u8>| (0..E).flat_map(&seeds).flat_map(of).collect();
    let rows = N * seeds(0).len();
    vec![
        part(&format!("{base}{}", ends[0]), Dtype::U8, &[E, rows, K / 2], all(codes)),
        part(&format!("{base}{}", ends[1]), Dtype::F8_E4M3, &[E, rows, K / 16], all(scales)),
        floats(&format!("{base}{}", ends[2]), global.0, global.1),
    ]
}

#[test]
fn experts_of_a_stack() {
    let two = |e: usize| vec![2 * e + 1, 2 * e + 2];
    for (ends, convention) in ENDS {
        for name in ["gate_up_proj", "w13"] {
            let base = format!("{EXPERTS}.{name}");
            let stored: Vec<f32> =
                (0..E).flat_map(two).map(|seed| convention.stored(global(seed))).collect();
            let mut all = stack(&base, ends, two, (&[E, 2], &stored));
            let inputs: Vec<f32> = (1..=E).map(|e| convention.stored(global(e))).collect();
            all.push(floats(&format!("{base}{}", ends[3]), &[E], &inputs));
            all.push(part(&format!("{EXPERTS}.down_proj{}", ends[0]), Dtype::U8, &[1], vec![0]));
            let checkpoint = open(&all);
            let listed: Vec<String> = (0..E).map(|e| format!("{EXPERTS}.{e}")).collect();
            assert_eq!(checkpoint.layers(), listed, "{ends:?}");
            for e in [3, 0, E - 1] {
                let layer = checkpoint.layer(&format!("{EXPERTS}.{e}")).unwrap();
                assert_layer(&layer, [2 * e + 1, 2 * e + 2]);
                assert_eq!(layer.convention, convention);
                assert_eq!(layer.input_global_scale().unwrap(), Some(global(e + 1)));
            }
            let error = checkpoint.layer(&format!("{EXPERTS}.{E}")).unwrap_err().to_string();
            assert!(error.contains("[5, 32, 16], expected more than 5 experts"), "{error}");
            let error = checkpoint.layer(EXPERTS).unwrap_err().to_string();
            assert!(error.contains("experts.0") || error.contains("as in PREFIX.0"), "{error}");
        }
        for [gate, up] in [["gate_proj", "up_proj"], ["w1", "w3"]] {
            let mut all = Vec::new();
            for (name, shift) in [(gate, 0), (up, 7)] {
                let stored: Vec<f32> =
                    (0..E).map(|e| convention.stored(global(e + shift))).collect();
                let base = format!("{EXPERTS}.{name}");
                all.extend(stack(&base, ends, |e| vec![e + shift], (&[E], &stored)));
            }
            let checkpoint = open(&all);
            assert_eq!(checkpoint.layers().len(), E);
            for e in 0..E {
                let layer = checkpoint.layer(&format!("{EXPERTS}.{e}")).unwrap();
                assert_layer(&layer, [e, e + 7]);
                assert_eq!(layer.input_global_scale().unwrap(), None);
            }
        }
    }
}

#[test]
fn global_scales_of_a_stack() {
    let ends = ENDS[2].0;
    let base = format!("{EXPERTS}.gate_up_proj");
    let try_with = |shape: &[usize], values: &[f32]| {
        open(&stack(&base, ends, |_| vec![1, 2], (shape, values)))
            .layer(&format!("{EXPERTS}.3"))
            .map(|layer| (layer.gate_proj.global_scale(), layer.up_proj.global_scale()))
            .map_err(|e| e.to_string())
    };
    let each: Vec<f32> = (1..=2 * E).map(|i| i as f32).collect();
    for (shape, expected) in [
        (&[][..], (1.0, 1.0)),
        (&[1][..], (1.0, 1.0)),
        (&[1, 1, 1][..], (1.0, 1.0)),
        (&[E][..], (4.0, 4.0)),
        (&[E, 1][..], (4.0, 4.0)),
        (&[E, 1, 1][..], (4.0, 4.0)),
        (&[E, 2][..], (7.0, 8.0)),
        (&[E, 2, 1][..], (7.0, 8.0)),
    ] {
        let count = shape.iter().product();
        assert_eq!(try_with(shape, &each[..count]), Ok(expected), "{shape:?}");
    }
    for shape in [&[2][..], &[E + 1], &[2, E], &[E, 3], &[1, E], &[0]] {
        let count: usize = shape.iter().product();
        let error = try_with(shape, &vec![1.0; count]).unwrap_err();
        assert!(error.contains("expected [], [1], [5], [5, 1] or [5, 2], gate first"), "{error}");
    }
    // Only the expert that is asked for has to have a good one.
    let mut bad = each[..E].to_vec();
    bad[2] = 0.0;
    assert_eq!(try_with(&[E], &bad), Ok((4.0, 4.0)));
    bad[3] = f32::NAN;
    let error = try_with(&[E], &bad).unwrap_err();
    assert!(error.contains("gate_up_proj_weight_scale_2 holds NaN"), "{error}");
}

#[test]
fn stacks_that_are_refused() {
    let ends = ENDS[2].0;
    let base = format!("{EXPERTS}.gate_up_proj");
    let good = || stack(&base, ends, |_| vec![1, 2], (&[], &[0.5]));
    let prefix = format!("{EXPERTS}.1");
    assert!(open(&good()).layer(&prefix).is_ok());

    // As Llama 4 has them: K runs along the second dimension.
    let mut all = good();
    all[0].shape = vec![E, K / 2, 2 * N];
    all[1].shape = vec![E, K / 16, 2 * N];
    let error = refused(&all, &prefix);
    assert!(error.contains("is a transposed stack of experts"), "{error}");
    assert!(error.contains("F8_E4M3 [5, 2, 32]: [E, K/2, N] and not [E, N, K/2]"), "{error}");
    let mut all = good();
    all[1].shape = vec![E, 2 * N * K / 16, 1];
    let error = refused(&all, &prefix);
    assert!(error.contains("expected [5, 32, 2], one scale per 16 elements"), "{error}");
    let mut all = good();
    all[1].shape = vec![E * 2 * N, K / 16];
    assert!(refused(&all, &prefix).contains("expected three dimensions"));

    let mut all = good();
    all[0] = part(&base, Dtype::BF16, &[E, 2 * N, K], vec![0; E * 2 * N * K * 2]);
    assert!(refused(&all, &prefix).contains("is not quantized"), "{}", refused(&all, &prefix));
    let error = refused(&all[..1], &prefix);
    assert!(error.contains("is not quantized") && error.contains("BF16 [5, 32, 32]"), "{error}");
    let mut all = good();
    all[1].dtype = Dtype::U8;
    assert!(refused(&all, &prefix).contains("may be another format"));

    // A scale byte that is none is named by expert and row, and only where it is used.
    let mut all = good();
    all[1].bytes[(2 * N + N + 3) * (K / 16) + 1] = 0x7f;
    let error = refused(&all, &prefix);
    assert!(error.contains("scale 0x7f (NaN) at batch 1, row 19, block 1"), "{error}");
    assert!(open(&all).layer(&format!("{EXPERTS}.0")).is_ok());

    // What may change the arithmetic and is not known.
    for beside in [
        "gate_up_proj_bias",
        "gate_up_proj.bias",
        "gate_up_proj_pre_quant_scale",
        "act_fn.weight",
        "gate_up_proj_weight_scale_3",
        "down_projection",
    ] {
        let mut all = good();
        all.push(part(&format!("{EXPERTS}.{beside}"), Dtype::U8, &[1], vec![0]));
        let error = refused(&all, &prefix);
        assert!(error.contains(&format!("{EXPERTS}.{beside}")), "{error}");
    }
    let mut all = good();
    all.push(part(&format!("{EXPERTS}.gate_up_proj_blocks"), Dtype::U8, &[1], vec![0]));
    assert!(refused(&all, &prefix).contains("gate_up_proj_blocks"));

    // Two stacks that do not belong together.
    let of =
        |name: &str, ends| stack(&format!("{EXPERTS}.{name}"), ends, |_| vec![1], (&[], &[0.5]));
    let mut all = of("gate_proj", ends);
    all.extend(of("up_proj", ENDS[1].0));
    assert!(refused(&all, &prefix).contains("is a mixture of conventions"));
    let mut all = of("gate_proj", ends);
    let mut up = of("up_proj", ends);
    up[0].shape = vec![E, 2, N * K / 4];
    up[1].shape = vec![E, 2, N * K / 32];
    all.extend(up);
    assert!(refused(&all, &prefix).contains("expected N = 16 and K = 32"));
}

/// A number of experts that a file merely claims is not believed.
#[test]
fn a_list_does_not_grow_by_a_claim() {
    let empty = part("l.experts.gate_up_proj", Dtype::U8, &[usize::MAX, 0, 0], vec![]);
    let checkpoint = open(&[empty]);
    assert_eq!(checkpoint.layers(), [""; 0]);
    assert!(checkpoint.layer("l.experts.1").is_err());
    let many = 1usize << 20;
    let flat = part("l.experts.gate_up_proj", Dtype::U8, &[many, 1, 1], vec![0; many]);
    assert_eq!(open(&[flat]).layers(), [""; 0]);
    // A number beyond usize is an expert that is not there.
    let all = stack("experts.gate_up_proj", ENDS[2].0, |_| vec![1, 2], (&[], &[0.5]));
    assert!(refused(&all, "experts.99999999999999999999999").contains("experts"));
}

#[test]
fn an_mlp_without_a_gate_is_said_to_have_none() {
    let of = |name: &str| projection(&format!("l.{name}"), Convention::ModelOpt, 1);
    let experts = |name: &str| projection(&format!("l.{name}.0"), Convention::ModelOpt, 1);
    let stacked = |name: &str| stack(&format!("l.{name}"), ENDS[2].0, |_| vec![1], (&[], &[0.5]));
    for (all, prefix, text) in [
        (
            [of("up_proj"), of("down_proj")].concat_parts(),
            "l",
            "up_proj and down_proj, and no gate_proj",
        ),
        ([of("w1"), of("w2")].concat_parts(), "l", "w1 and w2, and no w3"),
        ([experts("up_proj"), experts("down_proj")].concat_parts(), "l.0", "no gate_proj"),
        ([stacked("up_proj"), stacked("down_proj")].concat_parts(), "l.0", "no gate_proj"),
    ] {
        let error = refused(&all, prefix);
        assert!(error.contains("this MLP has no gate: there is"), "{error}");
        assert!(error.contains(text), "{error}");
    }
    // A gate that is merely missing is a damaged file.
    let error = refused(&of("up_proj"), "l");
    assert!(error.contains("no tensor l.gate_proj.weight"), "{error}");
}

/// AWQ's scale of the input is folded into the norm before the layer, or it is a tensor beside the weight.
#[test]
fn awq_whose_scale_is_folded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &layer("l"));
    for (name, json) in [
        (
            "hf_quant_config.json",
            r#"{"quantization": {"quant_algo": "NVFP4_AWQ", "group_size": 16}}"#,
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}}"#,
        ),
    ] {
        std::fs::write(dir.path().join(name), json).unwrap();
        write(&path, &layer("l"));
        assert_layer(&Checkpoint::open(dir.path()).unwrap().layer("l").unwrap(), [1, 2]);
        let mut all = layer("l");
        all.push(part("l.up_proj.pre_quant_scale", Dtype::BF16, &[K], vec![0x3f; 2 * K]));
        write(&path, &all);
        let error = fault(dir.path(), "l");
        assert!(
            error.contains("layer l is NVFP4_AWQ") && error.contains("pre_quant_scale"),
            "{error}"
        );
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
}

/// A view may be handed over by reference, as a matrix may.
#[test]
fn views_by_reference() {
    let checkpoint = open(&layer("l"));
    let layer: nvfp4_dual_gemm::MlpLayer = checkpoint.layer("l").unwrap();
    let a = layer.quantize_input(&[1.0f32; 2 * K], 2).unwrap();
    let by_reference = DualGemm::new(a.matrix(), &layer.gate_proj, &layer.up_proj).unwrap();
    let by_value =
        DualGemm::new(a.matrix().view(), layer.gate_proj.view(), layer.up_proj.view()).unwrap();
    let run = |gemm: DualGemm<'_>| nvfp4_dual_gemm::Engine::oracle().run::<f32>(&gemm).unwrap();
    assert_eq!(run(by_reference), run(by_value));
}
