//! `report.html`: one file that shows the run to a person, without network.

use crate::drive::Shape;
use crate::svg::{self, Mark};
use anyhow::{Context, Result};
use base64::Engine as _;
use headwater_lake::{CommitId, Lake};
use headwater_tests::truth::{Figures, Table};
use headwater_tests::world::{DEVICE, World};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Pictures shown in the report.
const PICTURES_SHOWN: usize = 12;

/// One matched value group of an aligned row.
#[derive(Debug, Clone)]
struct Match {
    group: String,
    values: Vec<(String, String)>,
    dt_ns: Option<i64>,
    err_ns: Option<i64>,
}

/// One aligned row, ready to print.
#[derive(Debug, Clone)]
struct AlignedRow {
    ts_ns: i64,
    ts_err_ns: i64,
    grade: String,
    name: String,
    matches: Vec<Match>,
}

async fn aligned(lake: &Lake, commit: &CommitId, shape: &Shape) -> Result<Vec<AlignedRow>> {
    let Some(table) = Table::read_of(lake, commit, &shape.table, DEVICE).await? else {
        return Ok(Vec::new());
    };
    let (ts, err) = (table.integers("ts_ns")?, table.integers("ts_err_ns")?);
    let (grade, name) =
        (table.texts("grade")?, table.texts(if shape.has_name { "name" } else { "row_key" })?);
    let mut rows: Vec<AlignedRow> = (0..ts.len())
        .map(|row| AlignedRow {
            ts_ns: ts[row].unwrap_or_default(),
            ts_err_ns: err[row].unwrap_or_default(),
            grade: grade[row].clone().unwrap_or_default(),
            name: name[row].clone().unwrap_or_default(),
            matches: Vec::new(),
        })
        .collect();
    for group in &shape.groups {
        let name = group.column.name.to_string();
        let part = |part: &str| table.integers(&format!("{name}_src.{part}"));
        let (dt, err) = (part("dt_ns")?, part("err_ns")?);
        let beginning = format!("{name}_");
        let columns = group
            .shown
            .iter()
            .map(|shown| {
                let label = shown.column.strip_prefix(&beginning).unwrap_or(&shown.column).to_owned();
                Ok((label, table.texts(&shown.column)?))
            })
            .collect::<Result<Vec<_>>>()?;
        for (at, row) in rows.iter_mut().enumerate() {
            let values = columns
                .iter()
                .map(|(field, column)| (field.clone(), column[at].clone().unwrap_or_else(|| "–".to_owned())));
            row.matches.push(Match {
                group: name.clone(),
                values: values.collect(),
                dt_ns: dt[at],
                err_ns: err[at],
            });
        }
    }
    rows.sort_by(|a, b| (a.ts_ns, &a.name).cmp(&(b.ts_ns, &b.name)));
    Ok(rows)
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// Text of a UTC point, ms.
pub(crate) fn utc(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970 (Howard Hinnant's `civil_from_days`).
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let millis = ns.rem_euclid(1_000_000_000) / 1_000_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Writes the report and gives its path.
pub(crate) async fn write(
    world: &World,
    figures: &Figures,
    set_aside: &[String],
    shape: &Shape,
) -> Result<PathBuf> {
    let location = world.path("lake").display().to_string();
    let lake = Lake::open(&location).await?;
    let commit = lake.resolve("main").await?;
    let rows = aligned(&lake, &commit, shape).await?;
    let mut html = String::from(HEAD);
    write!(html, "<h1>Headwater demo</h1><p>Commit <code>{}</code></p>", figures.commit)?;
    figures_table(&mut html, figures)?;
    html.push_str("<h2>Track of the fixes</h2>");
    html.push_str(&svg::track(&fixes(&lake, &commit).await?)?);
    html.push_str("<h2>Commits, gaps and quarantine over time</h2>");
    html.push_str(&timeline(&lake, &commit).await?);
    events(&mut html, &lake, &commit, set_aside).await?;
    html.push_str("<h2>Camera frames with the values matched to them</h2>");
    pictures(&mut html, &lake, &commit, &rows).await?;
    html.push_str("</main></html>\n");
    let path = world.path("report.html");
    std::fs::write(&path, html).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

fn figures_table(html: &mut String, f: &Figures) -> Result<()> {
    let cells = [
        ("emitted", f.emitted),
        ("captured", f.captured),
        ("committed", f.committed),
        ("lost", f.lost),
        ("duplicate", f.duplicate),
        ("wrong", f.wrong),
        ("gap rows recorded", f.gaps_recorded),
        ("quarantined", f.quarantined),
        ("emitted, not captured", f.emitted_not_captured),
        ("aligned rows", f.aligned_rows),
        ("commits", f.commits),
    ];
    html.push_str("<div class=figures>");
    for (name, value) in cells {
        write!(html, "<div><b>{value}</b><span>{name}</span></div>")?;
    }
    html.push_str("</div><table><tr><th>table</th><th>rows</th></tr>");
    for (table, rows) in &f.tables {
        write!(html, "<tr><td>{table}</td><td class=n>{rows}</td></tr>")?;
    }
    html.push_str("</table>");
    Ok(())
}

async fn fixes(lake: &Lake, commit: &CommitId) -> Result<Vec<(f64, f64)>> {
    let Some(table) = Table::read_of(lake, commit, "raw.gps_fix", DEVICE).await? else {
        return Ok(Vec::new());
    };
    let mut points: Vec<(i64, f64, f64)> = table
        .integers("utc")?
        .into_iter()
        .zip(table.doubles("lon")?)
        .zip(table.doubles("lat")?)
        .filter_map(|((utc, lon), lat)| Some((utc?, lon?, lat?)))
        .collect();
    points.sort_by_key(|p| p.0);
    Ok(points.into_iter().map(|(_, lon, lat)| (lon, lat)).collect())
}

async fn timeline(lake: &Lake, commit: &CommitId) -> Result<String> {
    let images = Table::read(lake, commit, "raw.imu").await?.context("no IMU rows")?;
    let start_ns = images.integers("ts_ns")?.into_iter().flatten().min().context("no IMU rows")?;
    let seconds = |ns: i64| (ns - start_ns) as f64 / 1e9;
    let lanes = ["commits of raw", "commits of aligned", "gaps", "quarantine"];
    let mut marks = Vec::new();
    for object in lake.log("main", usize::MAX).await? {
        let at = seconds(object.time_us.saturating_mul(1_000));
        let lane = usize::from(format!("{:?}", object.kind).eq_ignore_ascii_case("align"));
        marks.push(Mark { from_s: at, to_s: at, lane });
    }
    for (table, lane) in [("ops.gaps", 2), ("ops.quarantine", 3)] {
        if let Some(table) = Table::read(lake, commit, table).await? {
            marks.extend(table.integers("ts_ns")?.into_iter().flatten().map(|ns| Mark {
                from_s: seconds(ns),
                to_s: seconds(ns),
                lane,
            }));
        }
    }
    let end = marks.iter().map(|m| m.to_s).fold(1.0, f64::max);
    svg::timeline(&lanes, &marks, end)
}

async fn events(html: &mut String, lake: &Lake, commit: &CommitId, set_aside: &[String]) -> Result<()> {
    html.push_str("<table><tr><th>stream</th><th>what</th><th>why</th></tr>");
    if let Some(gaps) = Table::read(lake, commit, "ops.gaps").await? {
        let spans = gaps.integers("seq_lo")?.into_iter().zip(gaps.integers("seq_hi")?);
        let causes = gaps.texts("reason")?.into_iter().zip(gaps.texts("cause")?).zip(gaps.texts("detail")?);
        for ((stream, (lo, hi)), ((reason, cause), detail)) in
            gaps.texts("stream")?.into_iter().zip(spans).zip(causes)
        {
            write!(
                html,
                "<tr><td>{}</td><td>gap, seq {}–{}</td><td>{} / {}: {}</td></tr>",
                escape(&stream),
                lo.unwrap_or_default(),
                hi.unwrap_or_default(),
                escape(&reason),
                escape(&cause),
                escape(&detail)
            )?;
        }
    }
    if let Some(kept) = Table::read(lake, commit, "ops.quarantine").await? {
        let why = kept.texts("reason")?.into_iter().zip(kept.texts("detail")?);
        for (stream, (reason, detail)) in kept.texts("stream")?.into_iter().zip(why) {
            write!(
                html,
                "<tr><td>{}</td><td>quarantine</td><td>{}: {}</td></tr>",
                escape(&stream),
                escape(&reason),
                escape(&detail)
            )?;
        }
    }
    for line in set_aside {
        let (stream, why) = line.split_once(": ").unwrap_or(("?", line));
        let (stream, why) = (escape(&Some(stream.to_owned())), escape(&Some(why.to_owned())));
        write!(html, "<tr><td>{stream}</td><td>set aside on the gateway</td><td>{why}</td></tr>")?;
    }
    html.push_str("</table>");
    Ok(())
}

async fn pictures(html: &mut String, lake: &Lake, commit: &CommitId, rows: &[AlignedRow]) -> Result<()> {
    let Some(images) = Table::read_of(lake, commit, "raw.image", DEVICE).await? else { return Ok(()) };
    let bytes: BTreeMap<String, Vec<u8>> = images
        .texts("name")?
        .into_iter()
        .zip(images.bytes("image.bytes")?)
        .filter_map(|(name, bytes)| Some((name?, bytes?)))
        .collect();
    let stride = (rows.len() / PICTURES_SHOWN).max(1);
    html.push_str("<div class=grid>");
    for row in rows.iter().step_by(stride).take(PICTURES_SHOWN) {
        let Some(picture) = bytes.get(&row.name) else { continue };
        let data = base64::engine::general_purpose::STANDARD.encode(picture);
        write!(
            html,
            "<figure><img alt='{0}' src='data:image/jpeg;base64,{data}'><figcaption><b>{0}</b> {1} ± {2:.1} ms <i>{3}</i>",
            row.name,
            utc(row.ts_ns),
            ms(row.ts_err_ns),
            row.grade
        )?;
        for m in &row.matches {
            let values: Vec<String> = m.values.iter().map(|(k, v)| format!("{k} {}", shortened(v))).collect();
            match (m.dt_ns, m.err_ns) {
                (Some(dt), Some(err)) => write!(
                    html,
                    "<div><b>{}</b> {} <small>{:+.1} ms ± {:.1} ms</small></div>",
                    m.group,
                    values.join(", "),
                    ms(dt),
                    ms(err)
                )?,
                _ => write!(html, "<div><b>{}</b> no sample within tolerance</div>", m.group)?,
            }
        }
        html.push_str("</figcaption></figure>");
    }
    html.push_str("</div>");
    Ok(())
}

fn shortened(value: &str) -> String {
    value.parse::<f64>().map_or_else(|_| value.to_owned(), |x| format!("{x:.4}"))
}

fn escape(text: &Option<String>) -> String {
    text.as_deref().unwrap_or("–").replace('&', "&amp;").replace('<', "&lt;")
}

/// What to paste into Python for DuckDB; the views file is the run's.
pub(crate) fn duckdb_lines(views: &Path, table: &str) -> String {
    format!(
        r#"  import duckdb, importlib.util, pathlib
  con = duckdb.connect()
  for x in ("avro", "httpfs", "iceberg"):
      folder = importlib.util.find_spec(f"duckdb_extension_{{x}}").submodule_search_locations[0]
      con.load_extension(str(next(pathlib.Path(folder).rglob("*.duckdb_extension"))))
  con.execute(open("{}").read())
  con.sql("SELECT * FROM {table} ORDER BY ts LIMIT 10").show()"#,
        views.display()
    )
}

/// What to paste for pyiceberg and polars.
pub(crate) fn pyiceberg_lines(tables: &Path, table: &str) -> String {
    format!(
        r#"  import json, polars as pl
  from pyiceberg.table import StaticTable
  tables = {{t["name"]: t["metadata_location"] for t in json.load(open("{}"))}}
  table = StaticTable.from_metadata(tables["{table}"])
  print(table.scan(limit=10).to_arrow())
  print(pl.scan_iceberg(table).head(10).collect())"#,
        tables.display()
    )
}

const HEAD: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Headwater demo</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:0;background:#f6f7f8;color:#1c2430}
main{max-width:1040px;margin:0 auto;padding:24px}
h2{margin-top:36px;border-bottom:1px solid #d5dae0;padding-bottom:4px}
table{border-collapse:collapse;background:#fff;margin:12px 0}td,th{border:1px solid #dde2e7;padding:4px 10px;text-align:left}.n{text-align:right}
svg{background:#fff;border:1px solid #dde2e7;max-width:100%;height:auto}
.figures{display:flex;flex-wrap:wrap;gap:10px}.figures div{background:#fff;border:1px solid #dde2e7;padding:8px 14px;min-width:96px}
.figures b{display:block;font-size:22px}.figures span{color:#5a6675}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:14px}
figure{margin:0;background:#fff;border:1px solid #dde2e7}figure img{width:100%;display:block}figcaption{padding:8px 10px;font-size:13px}
small,i{color:#5a6675}</style><main>"#;

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_490_958_084_250_000_000), "2017-03-31T11:01:24.250Z");
    }
}
