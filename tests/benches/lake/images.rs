//! One picture out of many, as a training loader asks for it: by Rust from the Parquet file, by DuckDB from the table, and
//! beside both from a loose file.

use super::bed::{self, MIDNIGHT_NS, median, quantile};
use super::{Bench, NAME, python, verdict};
use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use headwater_lake::{CommitRequest, Lake, RefName, TableAppend};
use headwater_tests::lakes::{image, image_batch};
use headwater_tests::ticks::now;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::PageIndexPolicy;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Most that one picture may take, ms.
const PICTURE_MS_MAX: f64 = 2.0;
/// Pictures of a commit.
const PICTURES: i64 = 250;
/// Pictures asked for.
const TRIES: i64 = 200;

/// An open data file and the numbers of its pictures.
struct Shelf {
    file: File,
    metadata: ArrowReaderMetadata,
    seqs: Vec<i64>,
}

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let commits = bench.scale(8, 1);
    let folder = bench.folder("images");
    let pictures = pictures(&bench.data.join("camera"))?;
    let lake = bench.runtime.block_on(bed::local(&folder))?;
    for n in 0..commits {
        bench.bar.set_message(format!("pictures, commit {n} of {commits}"));
        fill(bench, &lake, &pictures, n)?;
    }
    let rows = commits * PICTURES;
    let shelves = shelves(&folder)?;
    let loose = bench.folder("loose");
    loosen(&loose, &pictures, rows)?;
    let (mut ours, mut files) = (Vec::new(), Vec::new());
    for n in 0..TRIES {
        let seq = (n * 7_919) % rows;
        let wanted = picture(&pictures, seq)?;
        let began = now();
        let found = fetch(&shelves, seq)?;
        ours.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(found == wanted, "picture {seq} reads back changed");
        let began = now();
        let found = std::fs::read(loose.join(format!("{seq}.jpg")))?;
        files.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(found == wanted, "file {seq} reads back changed");
    }
    let bytes = pictures.iter().map(Vec::len).sum::<usize>() / pictures.len();
    let case = json!({"pictures": rows, "kB_each": bytes / 1_000, "files": shelves.len()});
    let ms = median(&ours);
    let beside = json!({"p99": quantile(&ours, 0.99), "loose_file": median(&files), "bar": PICTURE_MS_MAX,
        "verdict": verdict(ms <= PICTURE_MS_MAX)});
    bench.sheet.add(NAME, case.clone(), "one picture, Rust", ms, "ms", beside);

    let Some(python) = python::python() else {
        python::without("DuckDB fetching one picture");
        return Ok(());
    };
    bench.bar.set_message("DuckDB fetches pictures");
    let tables = bench.runtime.block_on(async { lake.tables(&lake.resolve("main").await?).await })?;
    let location = &tables.get(&image().name).context("the lake has raw.image")?.metadata_location;
    let answer =
        python::run(&python, "read_image.py", &[location, &rows.to_string(), &TRIES.min(50).to_string()])?;
    let beside = json!({"same_files": python::number(&answer, "files_s")? * 1e3});
    bench.sheet.add(
        NAME,
        case,
        "one picture, DuckDB",
        python::number(&answer, "iceberg_s")? * 1e3,
        "ms",
        beside,
    );
    Ok(())
}

fn pictures(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let pictures = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    ensure!(!pictures.is_empty(), "{} holds no pictures", folder.display());
    Ok(pictures)
}

/// The picture under a number: the recording goes round.
fn picture(pictures: &[Vec<u8>], seq: i64) -> Result<&[u8]> {
    let at = usize::try_from(seq)? % pictures.len();
    Ok(&pictures[at])
}

fn fill(bench: &Bench<'_>, lake: &Lake, all: &[Vec<u8>], n: i64) -> Result<()> {
    let start_ns = MIDNIGHT_NS + n * PICTURES * 200_000_000;
    let keys = bed::keys(0, n * PICTURES, PICTURES, start_ns, 200_000_000);
    let chosen = keys.iter().map(|key| picture(all, key.seq)).collect::<Result<Vec<_>>>()?;
    let appends = vec![TableAppend { spec: image(), batches: vec![image_batch(&keys, &chosen)?] }];
    let request = CommitRequest { time_us: start_ns / 1_000, appends, ..CommitRequest::default() };
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    bench.runtime.block_on(writer.commit(request))?;
    Ok(())
}

fn loosen(folder: &Path, all: &[Vec<u8>], rows: i64) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for seq in 0..rows {
        std::fs::write(folder.join(format!("{seq}.jpg")), picture(all, seq)?)?;
    }
    Ok(())
}

/// Opens every data file below `folder` and reads which pictures it has, as a loader does once.
fn shelves(folder: &Path) -> Result<Vec<Shelf>> {
    let (mut open, mut shelves) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "parquet") {
                shelves.push(shelf(&path)?);
            }
        }
    }
    Ok(shelves)
}

fn shelf(path: &Path) -> Result<Shelf> {
    let file = File::open(path)?;
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&file, options)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata.clone());
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["seq"]);
    let mut seqs = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        seqs.extend(batch?.column(0).as_primitive::<Int64Type>().values());
    }
    Ok(Shelf { file, metadata, seqs })
}

/// One picture by its number.
fn fetch(shelves: &[Shelf], seq: i64) -> Result<Vec<u8>> {
    let found =
        shelves.iter().find_map(|shelf| Some((shelf, shelf.seqs.iter().position(|own| *own == seq)?)));
    let (shelf, row) = found.with_context(|| format!("no file has picture {seq}"))?;
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(shelf.file.try_clone()?, shelf.metadata.clone());
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["image.bytes"]);
    // The group the row is in, and its place there: groups before it are not looked at.
    let (mut group, mut skipped) = (0, row);
    for rows in shelf.metadata.metadata().row_groups().iter().map(|group| group.num_rows()) {
        let rows = usize::try_from(rows)?;
        if skipped < rows {
            break;
        }
        (group, skipped) = (group + 1, skipped - rows);
    }
    let selection = RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(1)]);
    let mut reader =
        builder.with_projection(mask).with_row_groups(vec![group]).with_row_selection(selection).build()?;
    let batch = reader.next().context("the row is there")??;
    let bytes = batch.column(0).as_struct().column(0);
    let bytes = match bytes.as_binary_opt::<i64>() {
        Some(large) => large.value(0),
        None => bytes.as_binary::<i32>().value(0),
    };
    Ok(bytes.to_vec())
}
