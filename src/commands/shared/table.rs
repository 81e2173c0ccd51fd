//! Tables for people: columns as wide as their cells are on a terminal.

use dialoguer::console::measure_text_width;

use crate::line::Line;

/// The lines of a table under its heads, without empty columns; without rows, nothing.
pub(crate) fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Line> {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let of = |text: &str| measure_text_width(text);
    // The width of each column, 0 if it is empty.
    let width = |column: usize| {
        let widest = rows.iter().filter_map(|row| row.get(column)).map(|text| of(text)).max().unwrap_or(0);
        if widest == 0 { 0 } else { widest.max(of(heads[column])) }
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .filter(|(_, width)| **width > 0)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(of(cell)))))
            .collect();
        padded.join("  ").trim_end().into()
    };
    let mut lines = vec![line(&mut heads.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::plain;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = [vec!["1".to_owned(), "ä".to_owned()], vec!["222".to_owned(), "Nightly".to_owned()]];
        let table = |heads: &[&str], rows: &mut dyn Iterator<Item = Vec<String>>| plain(&table(heads, rows));
        assert_eq!(table(&["ID", "NAME"], &mut rows.into_iter()), "ID   NAME\n1    ä\n222  Nightly");
        let rows = [vec!["夜间".to_owned(), "1".to_owned()], vec!["🚀".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["NAME", "ID"], &mut rows.into_iter()), "NAME  ID\n夜间  1\n🚀    2");
        let rows = [vec!["1".to_owned(), String::new(), "x".to_owned()]];
        assert_eq!(table(&["ID", "SCHEDULE", "NAME"], &mut rows.into_iter()), "ID  NAME\n1   x");
        assert_eq!(table(&["ID"], &mut std::iter::empty()), "");
    }
}
