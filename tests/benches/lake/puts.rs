//! PUTs a day: what an object store charges for. Counted over a simulated hour at the default cadences.

use super::bed::{self, CADENCE_LOCAL_S, CADENCE_REMOTE_S, MIDNIGHT_NS};
use super::{Bench, NAME};
use anyhow::Result;
use headwater_collector::commit::tables::Ops;
use headwater_lake::{CommitRequest, CompactScope, RefName, TableAppend, TableSpec};
use headwater_tests::lakes::{Class, Counted, Key, Upkeep, ledger, ledger_batch, small, small_batch};
use serde_json::{Map, Value, json};

/// A site's tables: three kinds of samples and three ledgers, as a gateway with IMU, position and weather fills them.
const KINDS: [&str; 3] = ["imu", "gps_fix", "env"];
const DAY_S: i64 = 86_400;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let seconds = bench.scale(3_600, 300);
    for devices in [1, 100, 10_000] {
        for cadence_s in [CADENCE_LOCAL_S, CADENCE_REMOTE_S] {
            bench.bar.set_message(format!("PUTs a day of {devices} devices, every {cadence_s} s"));
            for compacts in [false, true] {
                let counted = hour(bench, devices, cadence_s, seconds, compacts)?;
                report(bench, devices, cadence_s, seconds, compacts, &counted);
            }
        }
    }
    Ok(())
}

fn hour(bench: &Bench<'_>, devices: u32, cadence_s: i64, seconds: i64, compacts: bool) -> Result<Counted> {
    bench.runtime.block_on(async {
        let (meter, lake) = bed::metered().await?;
        let mut writer = lake.writer(RefName::main(), "measure".to_owned());
        let mut upkeep = Upkeep::new(&lake);
        meter.take();
        for n in 0..seconds / cadence_s {
            let request = request(devices, cadence_s, n)?;
            let time_us = request.time_us;
            writer.commit(request).await?;
            if compacts {
                upkeep.settle(&mut writer, &CompactScope::default(), time_us).await?;
            }
        }
        Ok(meter.take())
    })
}

/// One row a device and table: how many there are changes the size of files, not their number.
fn request(devices: u32, cadence_s: i64, n: i64) -> Result<CommitRequest> {
    let at_ns = MIDNIGHT_NS + n * cadence_s * 1_000_000_000;
    let keys: Vec<Key> = (0..devices).map(|device| Key { device, seq: n, at_ns }).collect();
    let mut appends = Vec::new();
    for kind in KINDS {
        appends.push(TableAppend { spec: small(kind), batches: vec![small_batch(kind, &keys)?] });
    }
    let runs: Vec<(Key, i64)> = keys.iter().map(|key| (*key, 1)).collect();
    appends.push(TableAppend { spec: ledger(), batches: vec![ledger_batch("imu", "imu", &runs)?] });
    for ops in [Ops::Batches, Ops::Clock] {
        appends.push(event_rows(ops.spec(), &runs)?);
    }
    let time_us = at_ns / 1_000 + cadence_s * 1_000_000;
    Ok(CommitRequest { time_us, appends, ..CommitRequest::default() })
}

/// A row a device in a table of events: the columns all of them have.
fn event_rows(spec: TableSpec, runs: &[(Key, i64)]) -> Result<TableAppend> {
    let rows = ledger_batch("imu", "imu", runs)?;
    let shared: Vec<usize> = ["ts", "ts_ns", "ts_err_ns", "device", "epoch"]
        .into_iter()
        .map(|name| rows.schema().index_of(name))
        .collect::<Result<_, _>>()?;
    Ok(TableAppend { spec, batches: vec![rows.project(&shared)?] })
}

fn report(
    bench: &mut Bench<'_>,
    devices: u32,
    cadence_s: i64,
    seconds: i64,
    compacts: bool,
    counted: &Counted,
) {
    let a_day = DAY_S as f64 / seconds as f64;
    let case = json!({"devices": devices, "cadence_s": cadence_s, "tables": KINDS.len() + 3,
        "compaction": if compacts { "by itself" } else { "none" }});
    let classes: Map<String, Value> = Class::ALL
        .into_iter()
        .filter_map(|class| {
            let (objects, _) = counted.puts.get(&class)?;
            Some((class.as_str().to_owned(), json!(*objects as f64 * a_day)))
        })
        .collect();
    let puts = counted.objects() as f64 * a_day;
    bench.sheet.add(NAME, case.clone(), "PUTs a day", puts, "", Value::Object(classes));
    // Who uploads a file a device, kind and interval pays for each of them.
    let plain = f64::from(devices) * KINDS.len() as f64 * DAY_S as f64 / cadence_s as f64;
    let beside = json!({"file_a_device_and_kind": plain, "gets": counted.gets as f64 * a_day, "lists": counted.lists as f64 * a_day});
    bench.sheet.add(NAME, case, "PUTs a day and device", puts / f64::from(devices), "", beside);
}
