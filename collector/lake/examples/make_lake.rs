//! Writes a small lake for readers in other languages to be tried on: `cargo run --example make_lake -- <folder> [commits] [rows of each]`.

#[path = "../tests/it/common.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use common::{NOON_US, both};
use headwater_lake::{ColumnSpec, ColumnType, CompactPolicy, CompactScope, Lake, RefName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("give the folder of the lake to make")?;
    let commits = std::env::args().nth(2).map_or(Ok(70), |count| count.parse())?;
    let rows = std::env::args().nth(3).map_or(Ok(100), |count| count.parse())?;
    let lake = Lake::init(&folder).await?;
    let mut writer = lake.writer(RefName::main(), "example".to_owned());
    let mut done = None;
    for n in 0..commits {
        done = Some(writer.commit(both(n * rows, rows, NOON_US + n * 10_000_000)).await?);
        // Readers meet manifests that list what came, what stayed and what went.
        if n % 8 == 7 {
            let (policy, scope, at) =
                (CompactPolicy::default(), CompactScope::default(), NOON_US + n * 10_000_000);
            lake.compact(writer.name(), "example", &policy, &scope, at, |_, _| ()).await?;
        }
    }
    // A last commit from a newer declaration: one column wider, one more.
    let mut wider = both(commits * rows, rows, NOON_US + commits * 10_000_000);
    for append in wider.appends.iter_mut().filter(|append| append.spec.name.as_str() == "raw.imu") {
        for column in append.spec.columns.iter_mut().filter(|column| column.name == "n") {
            column.column_type = ColumnType::Long;
        }
        append.spec.columns.push(ColumnSpec::optional("gz", ColumnType::Double));
        for batch in &mut append.batches {
            // Rows of the older form go without the column that has widened.
            let others: Vec<usize> =
                (0..batch.num_columns()).filter(|&at| batch.schema().field(at).name() != "n").collect();
            *batch = batch.project(&others)?;
        }
    }
    done = Some(writer.commit(wider).await?).or(done);
    // Branches and a tag for clients of the catalog to read and write.
    if let Some(done) = &done {
        let time_us = done.commit.time_us + 1;
        for name in ["exp/a", "exp/b"] {
            lake.branch(&RefName::new(name)?, &done.id, "example", time_us).await?;
        }
        lake.refs().tag(&RefName::new("v1")?, &done.id, "example", time_us).await?;
    }
    for (name, entry) in done.map(|done| done.commit.tables).unwrap_or_default() {
        println!("{name} {} {}", entry.rows, entry.metadata_location);
    }
    Ok(())
}
