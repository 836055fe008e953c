//! Tables without lines, as wide as what is in them.

use std::fmt;

use anyhow::Context;
use comfy_table::{Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, Width};

use super::output::{Output, Style};

/// Spaces between two columns.
const GAP: u16 = 2;

/// Side on which a column is flush.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Align {
    Left,
    Right,
}

/// What stands in a row and a column.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    pub fn styled(text: impl fmt::Display, style: Style) -> Self {
        Cell { text: text.to_string(), style: Some(style) }
    }

    /// PASS or FAIL.
    pub fn verdict(pass: bool) -> Self {
        if pass { Cell::styled("PASS", Style::Green) } else { Cell::styled("FAIL", Style::Red) }
    }
}

impl<T: fmt::Display> From<T> for Cell {
    fn from(value: T) -> Self {
        Cell { text: value.to_string(), style: None }
    }
}

/// Cells of anything that can be shown.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::ui::table::Cell::from($cell)),*] };
}
pub(crate) use row;

/// A table that is there as a whole: on a terminal, columns wrap to its width.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone)]
struct Column {
    title: String,
    align: Align,
    /// Width of the widest cell that is to be expected.
    width: usize,
}

impl Table {
    /// By the titles of its columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let column =
            |&(title, align): &(&str, Align)| Column { title: title.to_owned(), align, width: 0 };
        Table { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn print(self, out: &Output) -> anyhow::Result<()> {
        let titles = titles(&self.columns);
        out.line(render(&self.columns, [titles].into_iter().chain(self.rows), true)?)
    }
}

/// A table whose rows are printed as they come, so that its widths are fixed beforehand.
pub struct Stream {
    columns: Vec<Column>,
}

impl Stream {
    /// Columns by title, side and width (or that of the title, if more); prints the titles.
    pub fn start(out: &Output, columns: &[(&str, Align, usize)]) -> anyhow::Result<Self> {
        let column = |&(title, align, width): &(&str, Align, usize)| Column {
            title: title.to_owned(),
            align,
            width: width.max(title.chars().count()),
        };
        let stream = Stream { columns: columns.iter().map(column).collect() };
        stream.row(out, titles(&stream.columns))?;
        Ok(stream)
    }

    /// Prints one row.
    pub fn row(&self, out: &Output, cells: Vec<Cell>) -> anyhow::Result<()> {
        out.line(render(&self.columns, [cells], false)?)
    }
}

fn titles(columns: &[Column]) -> Vec<Cell> {
    let title = |column: &Column| match column.title.as_str() {
        // Codes around nothing would be no spaces at the end of a line.
        "" => Cell::from(""),
        title => Cell::styled(title, Style::Bold),
    };
    columns.iter().map(title).collect()
}

/// `wrap`: to the width of the terminal, if it is one.
fn render(
    columns: &[Column],
    rows: impl IntoIterator<Item = Vec<Cell>>,
    wrap: bool,
) -> anyhow::Result<String> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    // The stream that it is printed to takes colors away where there should be none.
    table.enforce_styling().style_text_only();
    table.set_content_arrangement(match wrap {
        true => ContentArrangement::Dynamic,
        false => ContentArrangement::Disabled,
    });
    for cells in rows {
        table.add_row(cells.into_iter().map(cell));
    }
    let last = columns.len().saturating_sub(1);
    for (i, column) in columns.iter().enumerate() {
        let gap = if i == last { 0 } else { GAP };
        let least = u16::try_from(column.width).context("a column is too wide")?;
        // A row may have fewer cells.
        let Some(drawn) = table.column_mut(i) else { continue };
        drawn.set_padding((0, gap));
        drawn.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(
            least.saturating_add(gap),
        )));
        drawn.set_cell_alignment(match column.align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    Ok(table.trim_fmt())
}

fn cell(Cell { text, style }: Cell) -> comfy_table::Cell {
    let cell = comfy_table::Cell::new_owned(text);
    match style {
        None => cell,
        Some(Style::Bold) => cell.add_attribute(Attribute::Bold),
        Some(Style::Dim) => cell.add_attribute(Attribute::Dim),
        Some(Style::Green) => cell.add_attribute(Attribute::Bold).fg(Color::DarkGreen),
        Some(Style::Red) => cell.add_attribute(Attribute::Bold).fg(Color::DarkRed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns<const N: usize>(columns: [(&str, Align, usize); N]) -> Vec<Column> {
        let column = |(title, align, width): (&str, Align, usize)| Column {
            title: title.to_owned(),
            align,
            width,
        };
        columns.into_iter().map(column).collect()
    }

    #[test]
    fn color_codes_take_no_room() {
        let columns = columns([("a", Align::Right, 6), ("b", Align::Left, 0)]);
        let rows = [row!["1", "x"], vec![Cell::verdict(true), Cell::from("y")]];
        let text = render(&columns, rows, false).unwrap();
        assert!(text.contains("\x1b["), "{text:?}");
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "     1  x\n  PASS  y");
    }

    #[test]
    fn lines_end_where_their_text_does() {
        let columns = columns([("a", Align::Left, 4), ("", Align::Left, 0)]);
        let rows = [titles(&columns), row!["1", "x"], row!["22222", ""]];
        let text = render(&columns, rows, true).unwrap();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "a\n1      x\n22222");
    }
}
