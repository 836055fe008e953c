//! Whole MLPs and their peers as a page of Markdown, in the form of `benches/results`.

use std::collections::BTreeMap;

use super::report::{Machine, Measured, Ours, Report, Row};

/// The whole page: what was measured on what, tables of medians, of stages and of memory, and who was left out.
pub fn page(report: &Report) -> String {
    let name = match &report.machine {
        Machine::Device(machine) => &machine.device.name,
        Machine::Cpu { cpu, .. } => cpu,
    };
    let mut text = format!("# The whole MLP and its peers: {name}\n\n");
    text += &format!("`{}`\n\n", report.head.command_line);
    for fact in report.facts() {
        text += &format!("- {fact}\n");
    }
    for table in [medians(report), stages(report), memory(report)].into_iter().flatten() {
        text += "\n";
        text += &table;
    }
    for (title, notes) in [("Variants", variants(report)), ("Left out", left_out(report))] {
        if notes.is_empty() {
            continue;
        }
        text += &format!("\n{title}:\n");
        for note in notes {
            text += &format!("- {note}\n");
        }
    }
    text
}

/// Cells of a row of a table.
fn line(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Titles, the first of text and the others of numbers.
fn head(titles: impl IntoIterator<Item = String>) -> String {
    let titles: Vec<String> = titles.into_iter().collect();
    let numbers = "---:|".repeat(titles.len().saturating_sub(1));
    format!("{}|---|{numbers}\n", line(titles))
}

/// Names of ours, in the order in which they were measured.
fn names(report: &Report) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for own in report.results.iter().flat_map(|row| &row.ours) {
        if !names.contains(&own.name) {
            names.push(own.name.clone());
        }
    }
    names
}

fn measured<'a>(row: &'a Row, name: &str) -> Option<&'a Measured> {
    row.ours.iter().find(|own| own.name == name)?.measured.as_ref()
}

/// Names and titles of the peers that were asked.
fn peers(report: &Report) -> Vec<&(String, String)> {
    let asked =
        |name: &str| report.results.iter().flat_map(|row| &row.peers).any(|peer| peer.peer == name);
    let about = report.head.peers.iter().flat_map(|about| &about.peers);
    about.filter(|(name, _)| asked(name)).collect()
}

fn none() -> String {
    "–".to_owned()
}

/// A time in µs on a device, where most are short, and in ms on a CPU.
fn unit(report: &Report) -> (&'static str, f64) {
    match report.machine {
        Machine::Device(_) => ("µs", 1e6),
        Machine::Cpu { .. } => ("ms", 1e3),
    }
}

fn medians(report: &Report) -> Option<String> {
    let (unit, scale) = unit(report);
    let (names, peers) = (names(report), peers(report));
    let titles = std::iter::once(format!("median, {unit}")).chain(names.iter().cloned());
    let mut text = head(titles.chain(peers.iter().map(|(_, title)| title.clone())));
    for row in &report.results {
        let ours = names.iter().map(|name| match measured(row, name) {
            Some(measured) => format!("{:.2}", measured.timing.median * scale),
            None => none(),
        });
        let peers = peers.iter().map(|(peer, _)| {
            let Some(peer) = row.fastest(peer) else { return none() };
            let Some(timing) = &peer.timing else { return none() };
            let ratio = |name: &String| Some(format!("{:.2}x", peer.ratios.get(name)?));
            let ratios: Vec<String> = names.iter().filter_map(ratio).collect();
            format!("{:.2} ({})", timing.median * scale, ratios.join(", "))
        });
        text += &line(std::iter::once(row.title()).chain(ours).chain(peers));
    }
    if !peers.is_empty() {
        text +=
            &format!("\nIn brackets, how many times that of ours it is: {}.\n", names.join("; "));
    }
    Some(text)
}

/// Medians of each stage alone; `None` where nothing was measured by stages.
fn stages(report: &Report) -> Option<String> {
    let all = || report.results.iter().flat_map(|row| row.ours.iter().map(move |own| (row, own)));
    let mut titles: Vec<&str> = Vec::new();
    for stage in all().filter_map(|(_, own)| own.measured.as_ref()).flat_map(|own| &own.stages) {
        if !titles.contains(&&*stage.stage) {
            titles.push(&stage.stage);
        }
    }
    if titles.is_empty() {
        return None;
    }
    let (unit, scale) = unit(report);
    let first = [format!("stage alone, {unit}"), "whole".to_owned()];
    let mut text = head(first.into_iter().chain(titles.iter().map(|&title| title.to_owned())));
    for (row, own) in all() {
        let Some(measured) = &own.measured else { continue };
        let cells = titles.iter().map(|title| {
            let stage = measured.stages.iter().find(|stage| stage.stage == *title);
            stage.map_or_else(none, |stage| format!("{:.2}", stage.timing.median * scale))
        });
        let whole = format!("{:.2}", measured.timing.median * scale);
        text += &line([format!("{}, {}", row.title(), own.name), whole].into_iter().chain(cells));
    }
    text += "\nEach stage is timed in a graph of that stage alone, with the plans of the layer.\n";
    Some(text)
}

fn memory(report: &Report) -> Option<String> {
    let mb = |bytes: usize| format!("{:.2}", bytes as f64 / 1e6);
    let peers = peers(report);
    let ours = ["MB", "ours, peak", "packed weights", "x and y", "h, workspace"];
    let titles = ours.into_iter().map(str::to_owned);
    let mut text = head(titles.chain(peers.iter().map(|(_, title)| format!("weights, {title}"))));
    for row in &report.results {
        for own in &row.ours {
            let Some(Measured { memory, .. }) = &own.measured else { continue };
            let own = [
                format!("{}, {}", row.title(), own.name),
                mb(memory.peak()),
                mb(memory.weight_bytes),
                mb(memory.value_bytes),
                memory.scratch_bytes.map_or_else(none, mb),
            ];
            let peers = peers.iter().map(|(peer, _)| {
                row.fastest(peer).and_then(|peer| peer.weight_bytes).map_or_else(none, mb)
            });
            text += &line(own.into_iter().chain(peers));
        }
    }
    Some(text)
}

/// Our kernels and the peers' fastest variants, each with what they are for.
fn variants(report: &Report) -> Vec<String> {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &report.results {
        let mut note = |who: String| rows.entry(who).or_default().push(row.title());
        for Ours { name, measured, .. } in &row.ours {
            if let Some(measured) = measured.as_ref().filter(|own| !own.kernels.is_empty()) {
                note(format!("ours, {name}, {}", measured.kernels.join(" and ")));
            }
        }
        let mut names: Vec<&str> = row.peers.iter().map(|peer| peer.peer.as_str()).collect();
        names.dedup();
        let fastest = names.into_iter().filter_map(|name| row.fastest(name));
        for peer in fastest.filter(|peer| !peer.variant.is_empty()) {
            note(format!("{}, {}", peer.peer, peer.variant));
        }
    }
    rows.into_iter().map(|(who, rows)| format!("{who}: {}", rows.join("; "))).collect()
}

fn left_out(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for row in &report.results {
        let ours = row.ours.iter().map(|own| (format!("ours, {}", own.name), &own.failed));
        let peers = row.peers.iter().map(|peer| (peer.peer.clone(), &peer.failed));
        for (who, failed) in ours.chain(peers) {
            notes.extend(failed.iter().map(|reason| format!("{who}, {}: {reason}", row.title())));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlp::Shape;
    use crate::mlp::report::tests::{contender, ours, report};

    #[test]
    fn a_page_has_medians_ratios_stages_and_memory() {
        let page = page(&report());
        for line in [
            "# The whole MLP and its peers: A GPU",
            "`nvfp4 bench --mlp`",
            "- peers: torch 2",
            "| median, µs | W4A4 | W4A4 dynamic | W4A16 | cuBLAS | Humming |",
            "|---|---:|---:|---:|---:|---:|",
            "| 4096→14336→4096, M = 16 | 40.00 | 160.00 | – | 80.00 (2.00x, 0.50x) | – |",
            "| stage alone, µs | whole | gate and up | down |",
            "| 4096→14336→4096, M = 16, W4A4 | 40.00 | 20.00 | 10.00 |",
            "| MB | ours, peak | packed weights | x and y | h, workspace | weights, cuBLAS | weights, Humming |",
            "| 4096→14336→4096, M = 16, W4A4 | 99.05 | 99.00 | 0.02 | 0.03 | 352.00 | – |",
            "- cublas, two GEMMs: 4096→14336→4096, M = 16",
            "- ours, W4A4, gate_up_kernel and down_kernel: 4096→14336→4096, M = 16",
            "- ours, W4A16, 4096→14336→4096, M = 16: no kernel for it",
            "- humming, 4096→14336→4096, M = 16: no module",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("cublas, three GEMMs"), "{page}");
    }

    #[test]
    fn a_cpu_has_milliseconds_and_no_stages() {
        let mut report = report();
        let (cpu, dram_read_gb_per_s) = ("A CPU".to_owned(), 20.0);
        report.machine = Machine::Cpu { cpu, threads: 2, dram_read_gb_per_s };
        let mut own = ours("W4A4, avx512", Ok(4e-3));
        let measured = own.measured.as_mut().unwrap();
        (measured.stages, measured.kernels) = (Vec::new(), Vec::new());
        measured.memory.scratch_bytes = None;
        let peers = vec![contender("cublas", Ok(&[("", 6e-3)]))];
        let shape = Shape { k: 32, n: 64, h: 96 };
        report.results = vec![Row::new(shape, 1, vec![own], peers)];
        let page = page(&report);
        assert!(page.contains("| median, ms | W4A4, avx512 | cuBLAS |"), "{page}");
        assert!(page.contains("| 32→64→96, M = 1 | 4.00 | 6.00 (1.50x) |"), "{page}");
        assert!(
            page.contains("| 32→64→96, M = 1, W4A4, avx512 | 99.02 | 99.00 | 0.02 | – |"),
            "{page}"
        );
        assert!(page.contains("- A CPU, 2 threads\n"), "{page}");
        // Its peers have no variants, and ours no kernels.
        assert!(!page.contains("Variants"), "{page}");
        assert!(!page.contains("stage alone") && !page.contains("Left out"), "{page}");
    }

    #[test]
    fn without_peers_there_are_no_columns_for_them() {
        let mut report = report();
        report.head.peers = None;
        report.results[0].peers.clear();
        let page = page(&report);
        assert!(page.contains("| median, µs | W4A4 | W4A4 dynamic | W4A16 |\n"), "{page}");
        assert!(!page.contains("In brackets"), "{page}");
    }
}
