//! Tables with a line under their header and no other lines.

use comfy_table::{ContentArrangement, Table, TableComponent, presets};

use super::text::{clip, columns};

/// An empty table, which never breaks a cell by itself.
#[must_use]
pub fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─')
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Sets the space after every column.
pub fn gap(table: &mut Table, space: u16) {
    for column in table.column_iter_mut() {
        // The crossing in the header's line takes one of them.
        column.set_padding((0, space.saturating_sub(1)));
    }
}

/// The table as text with `space` between columns, or one where it would not fit otherwise; lines that are
/// longer even so are cut.
#[must_use]
pub fn fit(table: &mut Table, space: u16, width: Option<usize>) -> String {
    gap(table, space);
    let text = table.to_string();
    if width.is_some_and(|width| text.lines().any(|line| columns(line.trim_end()) > width)) {
        gap(table, 1);
        return clipped(&table.to_string(), width);
    }
    clipped(&text, width)
}

/// Lines without spaces at their ends, cut to the width, each with a line feed.
#[must_use]
pub fn clipped(text: &str, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(clip(line.trim_end(), width).trim_end());
        out.push('\n');
    }
    out
}
