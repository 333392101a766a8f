//! A few aligned rows as a table that people can read: values with their uncertainty, their distance in time, and flags.

use crate::drive::{Group, Shape, Shown};
use crate::report::utc;
use anyhow::Result;
use headwater_lake::Lake;
use headwater_tests::truth::Table;

/// Rows shown, side by side.
const ROWS: usize = 4;
/// Width of the names, characters.
const NAMES: usize = 20;
/// Width of a row, characters.
const WIDTH: usize = 22;
/// Bits of a source's flag, in a word each.
const FLAGS: [(i64, &str); 12] = [
    (1, "no sample"),
    (2, "too far"),
    (4, "gap too wide"),
    (8, "ambiguous"),
    (16, "fallback"),
    (32, "extrapolated"),
    (64, "edge"),
    (128, "other boot"),
    (256, "order only"),
    (512, "gap beside"),
    (1024, "late"),
    (2048, "cut"),
];

/// Prints some rows of a device, and how many there are; nothing if there are none.
pub(crate) async fn print(location: &str, shape: &Shape, device: &str) -> Result<()> {
    let lake = Lake::open(location).await?;
    let commit = lake.resolve("main").await?;
    let Some(table) = Table::read_of(&lake, &commit, &shape.table, device).await? else {
        println!("\n{}: no row of {device}", shape.table);
        return Ok(());
    };
    let chosen = choose(&table, shape)?;
    println!(
        "\n{}: {} rows of {device}, {} of them: values ± uncertainty, distances in time ± bound, flags",
        shape.table,
        table.rows(),
        chosen.len()
    );
    let label = if shape.has_name { "name" } else { "row_key" };
    let names = table.texts(label)?;
    line("", &chosen, |row| names[row].clone().unwrap_or_default());
    let (ts, err) = (table.integers("ts_ns")?, table.integers("ts_err_ns")?);
    line("time, UTC", &chosen, |row| {
        let time = utc(ts[row].unwrap_or_default());
        format!("{} ± {:.1} ms", &time[11..23], ms(err[row].unwrap_or_default()))
    });
    for group in &shape.groups {
        print_group(&table, group, &chosen)?;
    }
    Ok(())
}

fn print_group(table: &Table, group: &Group, chosen: &[usize]) -> Result<()> {
    for shown in &group.shown {
        let values = Values::read(table, group, shown)?;
        line(&shown.column, chosen, |row| values.text(row));
    }
    let name = &group.column.name;
    let part = |part: &str| table.integers(&format!("{name}_src.{part}"));
    let (dt, err, flag) = (part("dt_ns")?, part("err_ns")?, part("flag")?);
    line("    distance", chosen, |row| match (dt[row], err[row]) {
        (Some(dt), Some(err)) => format!("{:+.1} ± {:.1} ms", ms(dt), ms(err)),
        _ => "–".to_owned(),
    });
    line("    flag", chosen, |row| words(flag[row].unwrap_or_default()));
    Ok(())
}

/// One value of every row.
struct Values {
    texts: Vec<Option<String>>,
    uncertainties: Vec<Option<f64>>,
    decimals: usize,
}

impl Values {
    fn read(table: &Table, group: &Group, shown: &Shown) -> Result<Self> {
        let texts = table.texts(&shown.column)?;
        let is_count = shown.column.ends_with("_count");
        let uncertainties = match (&shown.uncertainty, &group.edge) {
            (Some(column), _) => table.doubles(column)?,
            (None, Some(edge)) if is_count => table.doubles(edge)?,
            _ => vec![None; texts.len()],
        };
        // A millionth of a degree is a tenth of a metre.
        let is_place = shown.column.ends_with("_lat") || shown.column.ends_with("_lon");
        let decimals = if is_count {
            0
        } else if is_place {
            6
        } else {
            3
        };
        Ok(Self { texts, uncertainties, decimals })
    }

    fn text(&self, row: usize) -> String {
        let Some(text) = &self.texts[row] else { return "–".to_owned() };
        let decimals = self.decimals;
        let value = text.parse::<f64>().map_or_else(|_| text.clone(), |value| format!("{value:.decimals$}"));
        match self.uncertainties[row] {
            Some(u) if decimals == 0 => format!("{value} ± {u:.0}"),
            Some(u) if decimals == 6 => format!("{value} ± {u:.1} m"),
            Some(u) => format!("{value} ± {u:.decimals$}"),
            None => value,
        }
    }
}

/// Rows spread evenly over those that found most sources.
fn choose(table: &Table, shape: &Shape) -> Result<Vec<usize>> {
    let ts = table.integers("ts_ns")?;
    let mut found = vec![0_usize; ts.len()];
    for group in &shape.groups {
        let sources = table.integers(&format!("{}_src.dt_ns", group.column.name))?;
        sources.iter().zip(&mut found).for_each(|(dt, found)| *found += usize::from(dt.is_some()));
    }
    let most = found.iter().copied().max().unwrap_or_default();
    let mut rows: Vec<usize> = (0..ts.len()).filter(|&row| found[row] == most).collect();
    rows.sort_by_key(|&row| ts[row]);
    let (all, shown) = (rows.len(), rows.len().min(ROWS));
    Ok((0..shown).map(|n| rows[(2 * n + 1) * all / (2 * shown)]).collect())
}

fn line(name: &str, chosen: &[usize], cell: impl Fn(usize) -> String) {
    let cells: Vec<String> = chosen.iter().map(|&row| format!("{:<WIDTH$}", cell(row))).collect();
    println!("{}", format!("  {name:<NAMES$} {}", cells.join(" ")).trim_end());
}

fn words(flag: i64) -> String {
    let set = FLAGS.iter().filter(|(bit, _)| flag & bit != 0).map(|(_, word)| *word);
    let words = set.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "–".to_owned() } else { words }
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn flags_are_told_in_words() {
        assert_eq!(words(0), "–");
        assert_eq!(words(8 | 512), "ambiguous, gap beside");
    }
}
