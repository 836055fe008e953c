//! The device kernels and their peers as a page of Markdown, in the form of `benches/results`.

use std::collections::BTreeMap;

use crate::device::{PeerRow, Report, Row};
use crate::peers::About;

/// The whole page: what was measured on what, a table of medians, one of least times, and who was left out.
pub fn page(report: &Report) -> String {
    let mut text = format!("# The CUDA backend and its peers: {}\n\n", report.machine.device.name);
    text += &format!("`{}`\n\n", report.head.command_line);
    for line in facts(report) {
        text += &format!("- {line}\n");
    }
    for (title, least) in [("median", false), ("least", true)] {
        text += "\n";
        text += &table(report, title, least);
    }
    text += "\nVariants:\n";
    for note in variants(report) {
        text += &format!("- {note}\n");
    }
    let notes = left_out(report);
    if !notes.is_empty() {
        text += "\nLeft out:\n";
        for note in notes {
            text += &format!("- {note}\n");
        }
    }
    text
}

fn facts(report: &Report) -> Vec<String> {
    let peers = report.head.peers.as_ref().map(About::fact);
    report.machine.facts(peers.into_iter().chain([report.method()]))
}

fn table(report: &Report, title: &str, least: bool) -> String {
    let peers: Vec<&(String, String)> = match &report.head.peers {
        Some(about) => about
            .peers
            .iter()
            .filter(|(name, _)| {
                report.results.iter().flat_map(|row| &row.peers).any(|peer| peer.peer == *name)
            })
            .collect(),
        None => Vec::new(),
    };
    let mut text = format!("| {title}, µs | ours | TFLOP/s | GB/s |");
    for (_, title) in &peers {
        text += &format!(" {title} |");
    }
    text += "\n|---|---:|---:|---:|";
    text += &"---:|".repeat(peers.len());
    text.push('\n');
    for row in &report.results {
        let [m, n, k, batch] = row.shape;
        let batch = if batch == 1 { String::new() } else { format!(",{batch}") };
        let ours = if least { row.timing.min } else { row.timing.median };
        let scale = row.timing.median / ours;
        text += &format!(
            "| {m},{n},{k}{batch} | {:.2} | {:.0} | {:.0} |",
            ours * 1e6,
            row.tflop_per_s * scale,
            row.gb_per_s * scale
        );
        for (name, _) in &peers {
            text += &format!(" {} |", cell(row, name, ours, least));
        }
        text.push('\n');
    }
    text
}

/// The time of the fastest variant of a peer, and how many times ours it is.
fn cell(row: &Row, name: &str, ours: f64, least: bool) -> String {
    let Some(timing) = row.fastest(name).and_then(|peer| peer.timing.as_ref()) else {
        return "–".to_owned();
    };
    let time = if least { timing.min } else { timing.median };
    format!("{:.2} ({:.2}x)", time * 1e6, time / ours)
}

/// Our kernels and the peers' fastest variants, each with the shapes that they are for.
fn variants(report: &Report) -> Vec<String> {
    let mut shapes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &report.results {
        let [m, n, k, _] = row.shape;
        let mut note = |who: String| shapes.entry(who).or_default().push(format!("{m},{n},{k}"));
        note(format!("ours, {}", row.kernel));
        let mut names: Vec<&str> = row.peers.iter().map(|peer| peer.peer.as_str()).collect();
        names.dedup();
        for peer in names.into_iter().filter_map(|name| row.fastest(name)) {
            note(format!("{}, {}", peer.peer, peer.variant));
        }
    }
    shapes.into_iter().map(|(who, shapes)| format!("{who}: {}", shapes.join("; "))).collect()
}

fn left_out(report: &Report) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for row in &report.results {
        let [m, n, k, _] = row.shape;
        for PeerRow { peer, failed, .. } in &row.peers {
            if let Some(reason) = failed {
                notes.push(format!("{peer}, {m},{n},{k}: {reason}"));
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::{report, timing};
    use nvfp4_harness::timer::Timing;

    fn peer(peer: &str, variant: &str, found: Result<Timing, &str>) -> PeerRow {
        PeerRow {
            peer: peer.to_owned(),
            variant: variant.to_owned(),
            ratio: None,
            copies: 2,
            relative_error: None,
            failed: found.as_ref().err().map(|reason| (*reason).to_owned()),
            timing: found.ok(),
        }
    }

    #[test]
    fn ratios_are_of_the_fastest_variant_over_ours() {
        let mut report = report();
        report.results[0].peers = vec![
            peer("cublas", "one GEMM", Ok(timing(60e-6, 55e-6))),
            peer("cublas", "two GEMMs", Ok(timing(50e-6, 45e-6))),
            peer("humming", "", Err("no module")),
        ];
        let page = page(&report);
        assert!(
            page.contains("| median, µs | ours | TFLOP/s | GB/s | cuBLAS | Humming |"),
            "{page}"
        );
        assert!(
            page.contains("| 256,4096,7168 | 40.00 | 750 | 900 | 50.00 (1.25x) | – |"),
            "{page}"
        );
        assert!(
            page.contains("| 256,4096,7168 | 30.00 | 1000 | 1200 | 45.00 (1.50x) | – |"),
            "{page}"
        );
        assert!(page.contains("- cublas, two GEMMs: 256,4096,7168\n"), "{page}");
        assert!(page.contains("- humming, 256,4096,7168: no module"), "{page}");
        assert!(page.starts_with("# The CUDA backend and its peers: A GPU\n"), "{page}");
    }

    #[test]
    fn without_peers_there_are_no_columns_for_them() {
        let mut report = report();
        report.head.peers = None;
        assert!(
            page(&report)
                .contains("| median, µs | ours | TFLOP/s | GB/s |\n|---|---:|---:|---:|\n")
        );
    }
}
