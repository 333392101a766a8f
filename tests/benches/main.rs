//! `cargo measure NAME`: where every figure of this project comes from.
//!
//! Prints a table for people, or with `--json` one line per figure:
//! `{"measure","case":{…},"metric","value","unit","beside":{name:value,…}}`.

mod align;
mod cpu;
mod delivery;
mod figure;
mod first_light;
mod fleet;
mod gateway;
mod gps;
mod lake;
mod spool;
mod time;
mod wire;
mod world;

use clap::{Parser, ValueEnum};
use figure::Sheet;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures what this machine does with the product as it is built.
#[derive(Debug, Parser)]
#[command(
    name = "cargo measure",
    bin_name = "cargo measure",
    after_help = "Examples:\n  cargo measure first-light --json\n  cargo measure fleet --devices 10000\n  cargo measure lake --quick\n  cargo measure align --quick\n  cargo measure world --seeds 1000000 --from 10000"
)]
struct Args {
    /// What to measure.
    name: Name,
    /// One line of JSON per figure.
    #[arg(long)]
    json: bool,
    /// Folder of recordings (default: the ones in tests/data: `demo`, for `wire` and `gateway` `streams`, for `gps`
    /// `gpsd`).
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// `spool`: where stores are made (default: beside the program). The device below is what is measured, so a
    /// file system that nobody else writes to gives the best figures. `gateway`, `delivery`: where spools are made.
    /// `lake`: where lakes are made. `align`: where inputs and outputs lie.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// `spool`: backlogs to fill, kill and open, such as 1GB,10GB (the default). `delivery`: the one to drain
    /// beside live rows (default 256MB).
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = spool::size::parse)]
    backlog: Vec<u64>,
    /// `delivery`: payload of each case of throughput, MB (default 200); with it the backlog is as large, unless
    /// `--backlog` says another.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    mb: Option<u64>,
    /// `spool`, `lake`, `align`: everything small, to see that it runs; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// `fleet`: devices that lose their broker and come back.
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// `fleet`: messages each of them then has.
    #[arg(long, default_value_t = 4)]
    messages: u64,
    /// `fleet`: kilobytes of a message.
    #[arg(long, default_value_t = 24)]
    kilobytes: usize,
    /// `fleet`: receiving processes that share the fleet; with more than one, ingest is a process beside them.
    #[arg(long, default_value_t = 1)]
    receivers: usize,
    /// `align`: only these parts.
    #[arg(long, value_enum, value_name = "PART", value_delimiter = ',')]
    align_parts: Vec<align::Part>,
    #[command(flatten)]
    lake: lake::Options,
    #[command(flatten)]
    world: world::Options,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// Throughput, bytes a row, device writes, memory and latency of the whole path.
    FirstLight,
    /// Bytes a row, encode and decode speed of the wire format on recorded streams, beside other formats.
    Wire,
    /// MB a day on the link of three reference gateways, beside JSON with lz4 and raw JPEGs by a bare MQTT client;
    /// GB a day on their cards, CPU and memory.
    Gateway,
    /// A fleet that comes back from an outage all at once: memory and queues of the collector, credit, time until all
    /// are caught up, acks and hellos a device, rows lost and double.
    Fleet,
    /// Throughput, CPU, device writes, memory and opening of the spool, beside SQLite, redb and sled.
    Spool,
    /// MB/s and CPU from a full spool through mosquitto until landed, beside a bare MQTT client; latency of live rows
    /// beside a backlog; bytes on the wire on good and bad links.
    Delivery,
    /// What a commit costs however long the history, PUTs a day, ingest beside pyarrow, verbs of history, DuckDB on our
    /// tables beside plain Parquet, one picture out of many.
    Lake,
    /// As-of joins of ten million rows with one key and with a hundred, beside polars, pandas and DuckDB: rows per second of
    /// processor time and peak memory, with output; linear, window and slerp columns; raw rows of a lake to aligned ones on a
    /// branch, by one job and by two.
    Align,
    /// Simulated clocks of a fleet: coverage, bounds, errors and violations of resolved time, beside a wall clock and
    /// beside bounds from the past alone; samples placed a second.
    Time,
    /// Our decoding of GPS receivers' logs beside gpsd's: values compared, equal, explained. Needs `--data DIR` with
    /// gpsd's `test/daemon`.
    Gps,
    /// Simulated worlds: agents, broker, network, collector, disks and clocks from a seed, with an oracle. A soak for as
    /// many seeds as wanted; a failing one prints its plan and the command that replays it.
    World,
}

fn main() -> ExitCode {
    if let Some(code) = headwater_tests::roles::dispatch() {
        return code;
    }
    if let Some(code) =
        spool::dispatch().or_else(align::dispatch).or_else(gateway::dispatch).or_else(delivery::dispatch)
    {
        return code;
    }
    let args = Args::parse();
    let folder = match args.name {
        Name::FirstLight | Name::Lake | Name::Align => "data/demo",
        Name::Gps => "data/gpsd",
        Name::Wire
        | Name::Gateway
        | Name::Spool
        | Name::Delivery
        | Name::Fleet
        | Name::Time
        | Name::World => "data/streams",
    };
    let data = args.data.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder));
    let mut sheet = Sheet::new(args.json);
    let done = match args.name {
        Name::FirstLight => first_light::measure(&data, &mut sheet),
        Name::Wire => wire::measure(&data, &mut sheet),
        Name::Gateway => {
            let camera = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/demo/camera");
            gateway::measure(&data, &camera, args.dir.as_deref(), &mut sheet)
        }
        Name::Delivery => {
            let backlog = args.backlog.first().copied();
            delivery::measure(&delivery::Options { dir: args.dir, mb: args.mb, backlog }, &mut sheet)
        }
        Name::Fleet => {
            let options = fleet::Options {
                devices: args.devices.max(1),
                messages: args.messages.max(1),
                kilobytes: args.kilobytes.clamp(1, 80),
                receivers: args.receivers.clamp(1, 64),
            };
            fleet::measure(options, &mut sheet)
        }
        Name::Lake => {
            let place = lake::Place { data, dir: args.dir, quick: args.quick };
            lake::measure(&place, &args.lake, &mut sheet)
        }
        Name::Align => {
            let (dir, quick, parts) = (args.dir, args.quick, args.align_parts);
            align::measure(&align::Options { dir, data, quick, parts }, &mut sheet)
        }
        Name::Spool => {
            let options = spool::Options { dir: args.dir, backlog: args.backlog, quick: args.quick };
            spool::measure(&options, &mut sheet)
        }
        Name::Gps => gps::measure(&data, &mut sheet),
        Name::Time => time::measure(args.world.seeds, args.world.from, &mut sheet),
        Name::World => world::measure(args.world, &mut sheet),
    };
    match done {
        Ok(()) => {
            sheet.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("measure failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
