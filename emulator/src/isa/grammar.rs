//! Which spellings of an opcode are modeled.
//!
//! A family asks an opcode for the words that it knows and would not notice another one, such as a modifier of a later
//! PTX version. So each opcode is held against a list of forms first, written as the PTX ISA writes its syntax, and one
//! that fits none is refused. What a family refuses beyond that, it refuses itself.

use crate::fault::{Fault, Result};
use crate::ptx::Statement;

/// Words of one place that stand in many forms.
const SETS: &[(&str, &str)] = &[
    ("integer", "u16|u32|u64|s16|s32|s64"),
    ("bits", "b16|b32|b64"),
    ("bits_or_integer", "b16|b32|b64|u16|u32|u64|s16|s32|s64"),
    ("word", "b16|b32|b64|u16|u32|u64|s16|s32|s64|f16|bf16|f32|f64"),
    ("move", "pred|b16|b32|b64|b128|u16|u32|u64|s16|s32|s64|f16|bf16|f32|f64"),
    ("carried", "u32|s32|b32|u64|s64|b64"),
    ("half", "f16|f16x2"),
    ("bhalf", "bf16|bf16x2"),
    ("round", "rn|rz|rm|rp"),
    ("compare", "eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan"),
    ("join", "and|or|xor"),
    ("compared", "b16|b32|b64|u16|u32|u64|s16|s32|s64|f16|f16x2|bf16|bf16x2|f32|f64"),
    ("whole", "u8|u16|u32|u64|s8|s16|s32|s64"),
    ("number", "u8|u16|u32|u64|s8|s16|s32|s64|f16|bf16|f32|f64|tf32"),
    ("pair", "f16x2|bf16x2|e4m3x2|e5m2x2|e2m3x2|e3m2x2|e2m1x2|ue8m0x2"),
    (
        "space",
        "const|global|local|param|param::entry|param::func|shared|shared::cta|shared::cluster",
    ),
    ("own", "shared|shared::cta"),
    ("near", "shared|shared::cta|shared::cluster"),
    ("scope", "cta|cluster|gpu|sys"),
    ("near_scope", "cta|cluster"),
    ("L1", "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate"),
    ("L2", "L2::evict_normal|L2::evict_first|L2::evict_last"),
    ("fetch", "L2::64B|L2::128B|L2::256B"),
    ("vector", "v2|v4|v8"),
    (
        "stored",
        "b8|b16|b32|b64|b128|u8|u16|u32|u64|s8|s16|s32|s64|f16|f16x2|bf16|bf16x2|f32|f32x2|f64",
    ),
    ("rank", "1d|2d|3d|4d|5d"),
    ("pairs", "cta_group::1|cta_group::2"),
    ("operator", "add|min|max|inc|dec|and|or|xor"),
    ("dense", "kind::f16|kind::tf32|kind::f8f6f4|kind::i8"),
    ("scaled", "kind::mxf8f6f4|kind::mxf4|kind::mxf4nvf4"),
    ("scales", "scale_vec::1X|scale_vec::2X|scale_vec::4X|block16|block32"),
    (
        "collector",
        "collector::a::fill|collector::a::use|collector::a::lastuse|collector::a::discard",
    ),
    ("rows", "32x32b|16x64b|16x128b|16x256b|16x32bx2"),
    ("times", "x1|x2|x4|x8|x16|x32|x64|x128"),
    ("operand", "f16|bf16|tf32|e4m3|e5m2|s8|u8"),
];

/// Forms of each family, and other orders of their words that CUTLASS and NVIDIA's headers write and ptxas takes. A place is `word`,
/// `one|another`, `$set` or any word by `*`; with `?` it may be missing.
const FORMS: &[(&str, &[&str])] = &[
    // Integers, single and double precision, halves.
    ("add", ADD),
    ("sub", ADD),
    ("addc", &["cc?.$carried"]),
    ("subc", &["cc?.$carried"]),
    (
        "mul",
        &[
            "lo|hi.$integer",
            "wide.u16|u32|u64|s16|s32|s64",
            "$round?.ftz?.sat?.f32",
            "$round?.ftz?.f32x2",
            "$round?.f64",
            "rn?.ftz?.sat?.$half",
            "rn?.sat?.$bhalf",
        ],
    ),
    (
        "mad",
        &[
            "lo|hi.$integer",
            "hi.sat.s32",
            "lo|hi.cc.$carried",
            "wide.u16|u32|s16|s32",
            "$round?.ftz?.sat?.f32",
            "$round?.f64",
        ],
    ),
    ("madc", &["lo|hi.cc?.$carried"]),
    ("mul24", &["lo|hi.u32|s32"]),
    ("mad24", &["lo|hi.u32|s32"]),
    ("sad", &["$integer"]),
    ("div", &["$integer", "approx|full.ftz?.f32", "$round?.ftz?.f32", "$round.f64"]),
    ("rem", &["$integer"]),
    ("abs", &["s16|s32|s64", "ftz?.f32", "f64", "ftz?.$half", "$bhalf"]),
    ("neg", &["s16|s32|s64", "ftz?.f32", "f64", "ftz?.$half", "$bhalf"]),
    ("min", EXTREMUM),
    ("max", EXTREMUM),
    (
        "fma",
        &[
            "$round.ftz?.sat?.f32",
            "$round.ftz?.f32x2",
            "$round.f64",
            "rn.ftz?.sat?.$half",
            "rn.ftz?.relu.$half",
            "rn.relu?.$bhalf",
        ],
    ),
    ("rcp", &["approx.ftz?.f32", "approx.ftz.f64", "$round.ftz?.f32", "$round.f64"]),
    ("sqrt", &["approx.ftz?.f32", "$round.ftz?.f32", "$round.f64"]),
    ("rsqrt", &["approx.ftz?.f32|f64"]),
    ("ex2", &["approx.ftz?.f32", "approx.ftz?.$half", "approx.ftz.$bhalf"]),
    ("lg2", &["approx.ftz?.f32"]),
    ("sin", &["approx.ftz?.f32"]),
    ("cos", &["approx.ftz?.f32"]),
    ("tanh", &["approx.f32", "approx.$half", "approx.$bhalf"]),
    ("copysign", &["f32|f64"]),
    // Bits.
    ("and", &["pred", "$bits"]),
    ("or", &["pred", "$bits"]),
    ("xor", &["pred", "$bits"]),
    ("not", &["pred", "$bits"]),
    ("cnot", &["$bits"]),
    ("shl", &["$bits"]),
    ("shr", &["$bits_or_integer"]),
    ("shf", &["l|r.clamp|wrap.b32"]),
    ("lop3", &["b32"]),
    ("popc", &["b32|b64"]),
    ("clz", &["b32|b64"]),
    ("brev", &["b32|b64"]),
    ("bfind", &["shiftamt?.u32|u64|s32|s64"]),
    ("fns", &["b32"]),
    ("bfe", &["u32|u64|s32|s64"]),
    ("bfi", &["b32|b64"]),
    ("bmsk", &["clamp|wrap.b32"]),
    ("szext", &["clamp|wrap.u32|s32"]),
    ("prmt", &["b32.f4e|b4e|rc8|ecl|ecr|rc16?"]),
    ("dp4a", &["u32|s32.u32|s32"]),
    ("dp2a", &["lo|hi.u32|s32.u32|s32"]),
    // Comparison, choice, conversion.
    ("mov", &["$move"]),
    ("setp", &["$compare.$join?.ftz?.$compared"]),
    ("set", &["$compare.$join?.ftz?.u32|s32|u16|s16|f32|f16|f16x2|bf16|bf16x2.$compared"]),
    ("selp", &["$word"]),
    ("slct", &["$word.s32", "$word.f32"]),
    ("testp", &["finite|infinite|number|notanumber|normal|subnormal.f32|f64"]),
    (
        "cvt",
        &[
            "rni|rzi|rmi|rpi?.ftz?.sat?.$number.$number",
            "rn|rz|rm|rp|rna?.ftz?.sat?.$number.$number",
            "rn|rz|rna.relu?.satfinite?.$number.$number",
            "rn|rz|rp.relu?.satfinite?.$pair.$pair|f32",
            "rn|rz|rp.satfinite.relu?.$pair.$pair|f32",
            "pack.sat.u16|s16.s32",
            "pack.sat.u8|s8|u4|s4|u2|s2.s32.b32",
        ],
    ),
    ("createpolicy", &["fractional.*.*?.b64", "range.*.*.*?.b64", "cvt.L2.b64"]),
    // Memory.
    (
        "ld",
        &[
            "weak?.$space?.ca|cg|cs|lu|cv?.nc?.$L1?.$L2?.L2::cache_hint?.$fetch?.$vector?.$stored",
            "volatile.$space?.$fetch?.$vector?.$stored",
            "relaxed|acquire.$scope.$space?.$L1?.$L2?.L2::cache_hint?.$fetch?.$vector?.$stored",
            "$space.relaxed|acquire.$scope.$vector?.$stored",
            "ca|cg|cs|lu|cv.$space.$vector?.$stored",
        ],
    ),
    ("ldu", &["$space?.$vector?.$stored"]),
    (
        "st",
        &[
            "weak?.$space?.wb|cg|cs|wt?.$L1?.$L2?.L2::cache_hint?.$vector?.$stored",
            "volatile.$space?.$vector?.$stored",
            "relaxed|release.$scope.$space?.$L1?.$L2?.L2::cache_hint?.$vector?.$stored",
            "$space.relaxed|release.$scope.$vector?.$stored",
            "wb|cg|cs|wt.$space.$vector?.$stored",
        ],
    ),
    (
        "atom",
        &[
            "relaxed|acquire|release|acq_rel?.$scope?.$space?.exch|cas|$operator\
             .noftz?.L2::cache_hint?.$vector?.$stored",
            // The order of cooperative groups and libcu++.
            "exch|cas|$operator.relaxed|acquire|release|acq_rel.$scope.$stored",
        ],
    ),
    (
        "red",
        &[
            "relaxed|release?.$scope?.$space?.$operator.noftz?.L2::cache_hint?.$vector?.$stored",
            "$operator.relaxed|release.$scope.$stored",
        ],
    ),
    ("cvta", &["to?.$space.u32|u64"]),
    ("isspacep", &["$space"]),
    // Between the lanes of a warp.
    ("shfl", &["sync.up|down|bfly|idx.b32"]),
    ("vote", &["sync.all|any|uni.pred", "sync.ballot.b32"]),
    ("match", &["any|all.sync.b32|b64"]),
    ("activemask", &["b32"]),
    ("redux", &["sync.add|min|max.u32|s32", "sync.and|or|xor.b32"]),
    ("elect", &["sync"]),
    // Order.
    ("bar", &["warp.sync", "cta?.sync|arrive", "cta?.red.popc.u32", "cta?.red.and|or.pred"]),
    (
        "barrier",
        &[
            "cta?.sync|arrive.aligned?",
            "cta?.red.popc.aligned?.u32",
            "cta?.red.and|or.aligned?.pred",
            "cluster.arrive.release|relaxed?.aligned?",
            "cluster.wait.acquire?.aligned?",
        ],
    ),
    (
        "mbarrier",
        &[
            "init|inval.$own?.b64",
            "expect_tx|complete_tx.relaxed?.$near_scope?.$near?.b64",
            "expect_tx|complete_tx.$near.relaxed.$near_scope.b64",
            "arrive|arrive_drop.expect_tx?.release|relaxed?.$near_scope?.$near?.b64",
            "test_wait|try_wait.parity?.acquire|relaxed?.$near_scope?.$own?.b64",
            "pending_count.b64",
        ],
    ),
    (
        "fence",
        &[
            "sc|acq_rel|acquire|release?.$scope",
            "acquire.sync_restrict::shared::cluster.cluster",
            "release.sync_restrict::shared::cta.cluster",
            "mbarrier_init.release.cluster",
            "proxy.alias",
            "proxy.async.global|shared::cta|shared::cluster?",
            "proxy.async::generic.acquire.sync_restrict::shared::cluster.cluster",
            "proxy.async::generic.release.sync_restrict::shared::cta.cluster",
            "proxy.tensormap::generic.acquire|release.$scope",
        ],
    ),
    ("membar", &["cta|gl|sys"]),
    ("griddepcontrol", &["wait|launch_dependents"]),
    ("setmaxnreg", &["inc|dec.sync.aligned.u32"]),
    ("mapa", &["shared::cluster?.u32|u64"]),
    ("getctarank", &["shared::cluster?.u32|u64"]),
    ("nanosleep", &["u32"]),
    // Copies.
    (
        "cp",
        &[
            "async.bulk.commit_group",
            "async.bulk.wait_group.read?",
            "async.bulk.shared::cta|shared::cluster.global.mbarrier::complete_tx::bytes\
             .multicast::cluster?.L2::cache_hint?",
            "async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes",
            "async.bulk.global.shared::cta.bulk_group.L2::cache_hint?",
            "reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes\
             .$operator.$stored",
            "reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint?\
             .$operator.noftz?.$stored",
            // CUTLASS writes `.cta_group` first, and ptxas takes it.
            "async.bulk.tensor.$rank.$pairs?.shared::cta|shared::cluster.global.tile?\
             .mbarrier::complete_tx::bytes.multicast::cluster?.$pairs?.L2::cache_hint?",
            "async.bulk.tensor.$rank.global.shared::cta.tile?.bulk_group.L2::cache_hint?",
            "reduce.async.bulk.tensor.$rank.global.shared::cta.$operator.tile?\
             .bulk_group.L2::cache_hint?",
            "async.bulk.prefetch.L2.global.L2::cache_hint?",
            "async.bulk.prefetch.tensor.$rank.L2.global.tile?.L2::cache_hint?",
            "async.ca|cg.$own.global.L2::cache_hint?.$fetch?",
            "async.commit_group|wait_group|wait_all",
            "async.mbarrier.arrive.noinc?.$own?.b64",
        ],
    ),
    (
        "prefetch",
        &[
            "global|local?.L1|L2",
            "global.L2::evict_last|L2::evict_normal",
            "param|const?.tensormap",
        ],
    ),
    ("prefetchu", &["L1"]),
    ("applypriority", &["global?.L2::evict_normal"]),
    ("discard", &["global?.L2"]),
    (
        "tensormap",
        &[
            "cp_fenceproxy.global.shared::cta.tensormap::generic.release.$scope.sync.aligned",
            "replace.tile.*.global|shared::cta?.b1024.b32|b64",
        ],
    ),
    (
        "clusterlaunchcontrol",
        &[
            "try_cancel.async.shared::cta?.mbarrier::complete_tx::bytes\
             .multicast::cluster::all?.b128",
            "query_cancel.is_canceled.pred.b128",
            "query_cancel.get_first_ctaid.v4.b32.b128",
            "query_cancel.get_first_ctaid::x|get_first_ctaid::y|get_first_ctaid::z.b32.b128",
        ],
    ),
    // Matrices.
    ("ldmatrix", EIGHT_BY_EIGHT),
    ("stmatrix", EIGHT_BY_EIGHT),
    ("movmatrix", &["sync.aligned.m8n8.trans.b16"]),
    (
        "tcgen05",
        &[
            "alloc.$pairs.sync.aligned.shared::cta?.b32",
            "dealloc.$pairs.sync.aligned.b32",
            "relinquish_alloc_permit.$pairs.sync.aligned",
            "ld.sync.aligned.$rows.$times.pack::16b?.b32",
            "st.sync.aligned.$rows.$times.unpack::16b?.b32",
            "wait::ld|wait::st.sync.aligned",
            "fence::before_thread_sync|fence::after_thread_sync",
            "mma.$pairs.$dense.$collector?",
            "mma.$pairs.$scaled.block_scale.$scales?.$collector?",
            "cp.$pairs.128x256b|4x256b|128x128b",
            "cp.$pairs.64x128b.warpx2::02_13|warpx2::01_23",
            "cp.$pairs.32x128b.warpx4",
            "commit.$pairs.mbarrier::arrive::one.shared::cluster?.multicast::cluster?.b64",
        ],
    ),
    (
        "wgmma",
        &[
            "fence|commit_group|wait_group.sync.aligned",
            "mma_async.sync.aligned.*.f32|f16.$operand.$operand",
            "mma_async.sync.aligned.*.satfinite?.s32.s8|u8.s8|u8",
            "mma_async.sync.aligned.*.s32.s8|u8.s8|u8.satfinite",
        ],
    ),
    // Control.
    ("bra", &["uni?"]),
    ("brx", &["idx.uni?"]),
    ("call", &["uni?"]),
    ("ret", &["uni?"]),
    ("exit", &[""]),
    ("trap", &[""]),
    ("brkpt", &[""]),
];

const ADD: &[&str] = &[
    "$integer",
    "sat.s32",
    "cc.$carried",
    "u16x2|s16x2",
    "$round?.ftz?.sat?.f32",
    "$round?.ftz?.f32x2",
    "$round?.f64",
    "rn?.ftz?.sat?.$half",
    "rn?.sat?.$bhalf",
];

const EIGHT_BY_EIGHT: &[&str] =
    &["sync.aligned.m8n8.x1|x2|x4.trans?.$own?.b16", "sync.aligned.x1|x2|x4.trans?.m8n8.$own?.b16"];

const EXTREMUM: &[&str] = &[
    "$integer",
    "relu.s32",
    "relu?.s16x2",
    "u16x2",
    "ftz?.NaN?.f32",
    "ftz?.NaN?.xorsign.abs.f32",
    "f64",
    "ftz?.NaN?.$half",
    "ftz?.NaN?.xorsign.abs.$half",
    "NaN?.$bhalf",
    "NaN?.xorsign.abs.$bhalf",
];

/// Refuses an opcode that fits no form of its family.
///
/// # Errors
/// [`crate::fault::FaultKind::Unsupported`], with the opcode.
pub fn check(statement: &Statement) -> Result<()> {
    let forms = FORMS.iter().find(|(family, _)| *family == statement.family);
    let fits = |(_, forms): &(&str, &[&str])| {
        forms.iter().any(|form| {
            let places: Vec<&str> = form.split('.').filter(|place| !place.is_empty()).collect();
            fits(&places, &statement.suffixes)
        })
    };
    if forms.is_some_and(fits) {
        return Ok(());
    }
    Err(Fault::unsupported(format!("{}: no form that is modeled", statement.opcode())))
}

/// Whether the words are those of the places, in their order.
fn fits(places: &[&str], words: &[String]) -> bool {
    let Some((place, places)) = places.split_first() else { return words.is_empty() };
    let (one_of, may_be_missing) = match place.strip_suffix('?') {
        Some(one_of) => (one_of, true),
        None => (*place, false),
    };
    let here = words
        .split_first()
        .is_some_and(|(word, rest)| is_one_of(word, one_of) && fits(places, rest));
    here || may_be_missing && fits(places, words)
}

fn is_one_of(word: &str, alternatives: &str) -> bool {
    alternatives.split('|').any(|alternative| match alternative.strip_prefix('$') {
        Some(name) => {
            SETS.iter().any(|(set, words)| *set == name && words.split('|').any(|w| w == word))
        }
        None => alternative == "*" || alternative == word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(opcode: &str) -> bool {
        let (family, rest) = opcode.split_once('.').unwrap_or((opcode, ""));
        let suffixes = rest.split('.').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let statement = Statement {
            line: 1,
            source: None,
            guard: None,
            family: family.to_owned(),
            suffixes,
            operands: Vec::new(),
        };
        check(&statement).is_ok()
    }

    #[test]
    fn all_sets_that_forms_name_exist() {
        for (family, forms) in FORMS {
            for place in forms.iter().flat_map(|form| form.split('.')) {
                for name in
                    place.trim_end_matches('?').split('|').filter_map(|w| w.strip_prefix('$'))
                {
                    assert!(SETS.iter().any(|(set, _)| *set == name), "{family}: ${name}");
                }
            }
        }
    }

    #[test]
    fn what_the_isa_writes_fits() {
        for opcode in [
            "add.s32",
            "add.rn.ftz.sat.f32",
            "add.f32",
            "add.cc.u32",
            "fma.rn.ftz.relu.f16x2",
            "min.NaN.xorsign.abs.f32",
            "setp.lt.and.ftz.f32",
            "cvt.rni.ftz.s32.f32",
            "cvt.rn.satfinite.relu.e4m3x2.f32",
            "cvt.rn.relu.satfinite.tf32.f32",
            "ld.global.nc.L1::no_allocate.L2::128B.v4.u32",
            "ld.acquire.gpu.global.L1::evict_last.u32",
            "st.shared.v4.b32",
            "atom.relaxed.gpu.global.add.noftz.L2::cache_hint.v2.f16x2",
            "red.release.gpu.global.add.s32",
            "bar.sync",
            "bar.red.popc.u32",
            "barrier.cluster.arrive.relaxed.aligned",
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64",
            "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64",
            "fence.proxy.async",
            "fence.proxy.async.shared::cta",
            "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.cta_group::2.L2::cache_hint",
            "tcgen05.mma.cta_group::1.kind::mxf4nvf4.block_scale.scale_vec::4X.collector::a::fill",
            "wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16",
            "exit",
            "bra.uni",
            "brx.idx",
        ] {
            assert!(accepts(opcode), "{opcode}");
        }
    }

    #[test]
    fn a_word_more_is_refused() {
        for opcode in [
            "add.foo.s32",
            "add.sat.u32",
            "add.s32.foo",
            "mad24.hi.sat.s32",
            "min.xorsign.f32",
            "min.abs.f16",
            "atom.global.gpu.relaxed.add.u32",
            "redux.sync.min.abs.f32",
            "redux.sync.min.f32",
            "barrier.cluster.arrive.x",
            "barrier.cluster.arrive.relaxed.x.aligned",
            "tcgen05.mma.cta_group::1.kind::f16.ws",
            "tcgen05.mma.cta_group::1.kind::f16.some_later_word",
            "tcgen05.ld.red.sync.aligned.32x32b.x1.b32",
            "tcgen05.cp.cta_group::1.128x256b.b8x16.b6x16_p32",
            "mbarrier.arrive.noComplete.shared::cta.b64",
            "cp.async.bulk.tensor.2d.shared::cta.global.im2col.mbarrier::complete_tx::bytes",
            "cp.async.bulk.global.shared::cta.bulk_group.cp_mask",
            "ld.mmio.relaxed.sys.global.u32",
            "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16",
            "lop3.or.b32",
            "exit.uni",
            "vote.all.pred",
            "family_of_tomorrow.b32",
            "fence.proxy.async.sometime",
            "griddepcontrol",
        ] {
            assert!(!accepts(opcode), "{opcode}");
        }
    }
}
