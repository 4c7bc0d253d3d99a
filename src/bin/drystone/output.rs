//! Text for people: sizes, tables, and a writer that a closed pipe doesn't upset.

use std::io::{ErrorKind, Write};
use std::time::{Duration, SystemTime};

use comfy_table::presets;
use comfy_table::{Cell, CellAlignment, Table};
use drystone::config::FlinkDuration;

/// Writes to standard output. A reader that has gone away, like `head`, is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Where that can't be written nobody can be told so, and the answer counts, not the remark.
pub fn remark(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Prints one JSON document.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Bytes in the unit that leaves one to three digits before the point.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// A number with its noun: `1 file`, `2 files`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A time ago, in the two largest units at most.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let rounded = match seconds {
        0 => return "0 s".to_owned(),
        1..3_600 => seconds,
        3_600..172_800 => seconds - seconds % 60,
        _ => seconds - seconds % 86_400,
    };
    match (rounded / 3_600, rounded / 60 % 60) {
        (1..48, minutes @ 1..) => format!("{} h {minutes} min", rounded / 3_600),
        (0, minutes @ 1..) if rounded % 60 != 0 => format!("{minutes} min"),
        _ => FlinkDuration(Duration::from_secs(rounded)).to_string(),
    }
}

/// A time for machines: seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A plain table; columns whose name ends with `>` are aligned to the right.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|name| name.trim_end_matches('>')));
    for row in rows {
        table.add_row(row.into_iter().map(Cell::new));
    }
    for (column, name) in table.column_iter_mut().zip(header) {
        column.set_padding((2, 0));
        if name.ends_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}
