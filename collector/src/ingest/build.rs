//! Builds one commit from a group: places every row in UTC, lays it out in columns, and writes the ledger beside it.

use super::cursors::{linear, to_commit};
use super::fold::Folder;
use super::group::{HeldRows, RecordedGap, event};
use super::timing::{Accounted, account};
use crate::align::Promise;
use crate::commit::cells::{Cell, TableRows};
use crate::commit::raw::{self, RawRows};
use crate::commit::tables::Ops;
use crate::dedup::StreamKey;
use crate::resolve::{Incoming, Query, Resolved};
use arrow_schema::ArrowError;
use headwater_core::id::{BootOrdinal, KindName, StreamName};
use headwater_core::schema::Schema;
use headwater_core::time::{BootNanos, ClockDomain, UtcNanos, event_time, stamp_unit_ns};
use headwater_lake::{CommitKind, CommitRequest, CommitStats, Lineage, Software, TableAppend};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A row received later than this after its event is marked `late`: the default of recipes.
const ALLOWED_LATENESS_NS: i64 = 30 * 86_400 * 1_000_000_000;

/// A commit to be made, with the time of every row in it.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) request: CommitRequest,
    /// Parallel to the group's rows.
    pub(super) resolved: Vec<Vec<Resolved>>,
    /// What it says of time, to be remembered once it is there.
    pub(super) accounted: Accounted,
}

/// Builds the commit of the folder's group. May be called again with the same result until the group is replaced.
pub(super) fn build(folder: &mut Folder, now: UtcNanos) -> Result<Built, ArrowError> {
    let resolved = resolve(folder);
    let mut tracks = BTreeMap::new();
    for held in &folder.group.rows {
        let whose = incoming(held);
        tracks.insert(held.key.device.to_string(), folder.tracks.track_id(whose).cast_unsigned());
    }
    let (raw, late_rows) = raw_appends(folder, &resolved)?;
    let mut appends = raw;
    let gaps = gaps(folder);
    let ledger = ledger(folder, &resolved, now);
    let accounted = account(folder, &resolved, now);
    let clock = clock(folder, &accounted, now);
    let group = &folder.group;
    for rows in [&group.batches, &clock, &ledger, &gaps, &group.schemas, &group.devices, &group.quarantine]
        .into_iter()
        .chain([&accounted.corrections, &accounted.verdicts])
    {
        if !rows.is_empty() {
            appends.push(rows.to_append()?);
        }
    }
    let devices: BTreeSet<&str> = group.rows.iter().map(|held| held.key.device.as_str()).collect();
    let times = || resolved.iter().flatten().map(|resolved| resolved.ts.0);
    let landing = to_commit(&folder.settings.receiver, &folder.read, &folder.waiting_floor());
    let lineage = Lineage {
        inputs: landing
            .iter()
            .map(|(log, at)| format!("{log} up to {}:{}", at.data.n, at.data.offset))
            .collect(),
        recipes: BTreeMap::new(),
        clock_tracks: tracks,
        software: Software {
            collector: env!("CARGO_PKG_VERSION").to_owned(),
            agents: group.agents.iter().cloned().collect(),
        },
        config_hash: folder.settings.config_hash.clone(),
        ..Lineage::default()
    };
    let rows: usize = group.rows.iter().map(|held| held.rows.len()).sum();
    let request = CommitRequest {
        kind: CommitKind::Ingest,
        message: format!("{rows} rows of {} devices", devices.len()),
        time_us: now.micros(),
        stats: CommitStats {
            devices: devices.len() as u64,
            late_rows,
            t_min_ns: times().min(),
            t_max_ns: times().max(),
            ..CommitStats::default()
        },
        appends,
        landing,
        lineage,
        ..CommitRequest::default()
    };
    Ok(Built { request, resolved, accounted })
}

fn incoming(held: &HeldRows) -> Incoming<'_> {
    Incoming { device: &held.key.device, epoch: held.key.epoch, boot: held.rows.boot_ordinal }
}

/// Event time and half width of each row. A stamp was floored to the stream's unit, which widens the bound.
pub(super) fn events(held: &HeldRows) -> Vec<Query> {
    let rows = &held.rows;
    let unit = stamp_unit_ns(rows.time_exp).unwrap_or(1);
    (0..rows.len())
        .map(|row| {
            let latency = |side: &[i64]| side.get(row).copied().unwrap_or_default();
            let (event, half) =
                event_time(rows.t_ns(row).unwrap_or_default(), latency(&rows.lat_lo), latency(&rows.lat_hi));
            Query { event: BootNanos(event), half_ns: half.saturating_add(unit - 1) }
        })
        .collect()
}

/// The time of every row: all rows of one boot together, so that their order is kept across streams and messages.
fn resolve(folder: &Folder) -> Vec<Vec<Resolved>> {
    let rows = &folder.group.rows;
    let mut answers: Vec<Vec<Resolved>> = vec![Vec::new(); rows.len()];
    let mut boots: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, held) in rows.iter().enumerate() {
        if held.rows.domain == ClockDomain::BOOT {
            let whose = (&held.key.device, held.key.epoch, held.rows.boot_ordinal);
            boots.entry(whose).or_default().push(place);
        } else if let Some(answer) = answers.get_mut(place) {
            let received = held.received.plus_ns(folder.settings.clock_half_ns);
            let (whose, domain) = (incoming(held), held.rows.domain);
            *answer = folder.tracks.resolve_foreign(whose, domain, received, &events(held));
        }
    }
    let mut conflicts = 0_u64;
    for ((device, epoch, boot), places) in boots {
        let queries: Vec<Query> =
            places.iter().filter_map(|place| rows.get(*place)).flat_map(events).collect();
        let mut resolved = folder.tracks.resolve(Incoming { device, epoch, boot }, &queries).into_iter();
        for place in places {
            let n = rows.get(place).map_or(0, |held| held.rows.len());
            if let Some(answer) = answers.get_mut(place) {
                *answer = resolved.by_ref().take(n).collect();
                conflicts += answer.iter().filter(|resolved| resolved.conflict).count() as u64;
            }
        }
    }
    if conflicts > 0 {
        metrics::counter!("headwater_resolve_clock_conflicts_total").increment(conflicts);
    }
    answers
}

/// Runs of one kind that follow one declaration.
struct Declared<'a> {
    schema: &'a Arc<Schema>,
    runs: Vec<RawRows<'a>>,
}

/// One append per kind, of one batch per declaration.
fn raw_appends(folder: &Folder, resolved: &[Vec<Resolved>]) -> Result<(Vec<TableAppend>, u64), ArrowError> {
    let mut late_rows = 0;
    let mut of_kinds: BTreeMap<&KindName, Vec<Declared<'_>>> = BTreeMap::new();
    for (held, resolved) in folder.group.rows.iter().zip(resolved) {
        if is_builtin(&held.key.stream) {
            continue;
        }
        let late: Vec<bool> = resolved
            .iter()
            .map(|at| held.received.since(at.ts).saturating_sub(at.err_ns) > ALLOWED_LATENESS_NS)
            .collect();
        let track = folder.tracks.track_id(incoming(held));
        let run = RawRows { key: &held.key, rows: &held.rows, resolved, track, late };
        let declared = of_kinds.entry(&held.schema.kind).or_default();
        // Each device brings its own copy of what most of them declare alike.
        let same =
            |one: &&mut Declared<'_>| Arc::ptr_eq(one.schema, &held.schema) || *one.schema == held.schema;
        match declared.iter_mut().find(same) {
            Some(one) => one.runs.push(run),
            None => declared.push(Declared { schema: &held.schema, runs: vec![run] }),
        }
    }
    let mut appends = Vec::with_capacity(of_kinds.len());
    for (kind, declared) in of_kinds {
        let Some(spec) = folder.kinds.spec(kind) else { continue };
        let late = declared.iter().flat_map(|one| &one.runs).flat_map(|run| &run.late);
        late_rows += late.filter(|late| **late).count() as u64;
        let batch =
            |one: &Declared<'_>| raw::batch(&one.runs, one.schema, &spec, &folder.kinds, &folder.group.blobs);
        let batches = declared.iter().map(batch).collect::<Result<_, _>>()?;
        appends.push(TableAppend { spec, batches });
    }
    Ok((appends, late_rows))
}

/// True for the streams Headwater itself sends, which have tables of their own.
pub(super) fn is_builtin(stream: &StreamName) -> bool {
    stream.as_str().starts_with("hw/")
}

/// A run of held seqs on its way to one ledger row.
struct Run<'a> {
    first: &'a HeldRows,
    last: &'a HeldRows,
    rows: u64,
    bytes: u64,
    b: (i64, i64),
    t: (i64, i64),
    worst: headwater_core::time::Grade,
}

impl Run<'_> {
    fn continues(&self, next: &HeldRows) -> bool {
        let last = &self.last.rows;
        self.last.key == next.key
            && last.seqs().end == next.rows.first_seq.0
            && last.boot_ordinal == next.rows.boot_ordinal
            && last.domain == next.rows.domain
            && last.fingerprint == next.rows.fingerprint
            && self.last.schema.kind == next.schema.kind
            && self.last.position.incarnation == next.position.incarnation
    }
}

/// `ops.ledger`: which seqs this commit holds, one row per run of one stream, boot, kind and fingerprint.
fn ledger(folder: &mut Folder, resolved: &[Vec<Resolved>], now: UtcNanos) -> TableRows {
    let mut out = TableRows::new(Ops::Ledger.spec());
    let mut order: Vec<(&HeldRows, &Vec<Resolved>)> = folder.group.rows.iter().zip(resolved).collect();
    order.sort_by(|a, b| (&a.0.key, a.0.rows.first_seq).cmp(&(&b.0.key, b.0.rows.first_seq)));
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (held, resolved) in order {
        let stamps = || (0..held.rows.len()).filter_map(|row| held.rows.t_ns(row));
        let times = || resolved.iter().map(|at| at.ts.0);
        let (Some(b_lo), Some(b_hi), Some(t_lo), Some(t_hi), Some(worst)) = (
            stamps().min(),
            stamps().max(),
            times().min(),
            times().max(),
            resolved.iter().map(|at| at.grade).min(),
        ) else {
            continue;
        };
        let (rows, bytes) = (held.rows.len() as u64, held.bytes as u64);
        match runs.last_mut().filter(|run| run.continues(held)) {
            Some(run) => {
                run.last = held;
                run.rows += rows;
                run.bytes += bytes;
                run.b = (run.b.0.min(b_lo), run.b.1.max(b_hi));
                run.t = (run.t.0.min(t_lo), run.t.1.max(t_hi));
                run.worst = run.worst.min(worst);
            }
            None => {
                runs.push(Run {
                    first: held,
                    last: held,
                    rows,
                    bytes,
                    b: (b_lo, b_hi),
                    t: (t_lo, t_hi),
                    worst,
                });
            }
        }
    }
    for run in runs {
        let (key, rows) = (&run.first.key, &run.first.rows);
        let agent = folder.agents.get(&(key.device.clone(), key.epoch)).cloned();
        let mut cells = event(now, folder.settings.clock_half_ns, Some(&key.device));
        cells.extend([
            ("epoch", key.epoch.to_string().into()),
            ("stream", key.stream.to_string().into()),
            ("seq_lo", rows.first_seq.0.into()),
            ("seq_hi", run.last.rows.seqs().end.saturating_sub(1).into()),
            ("rows", run.rows.into()),
            ("bytes", run.bytes.into()),
            ("kind", run.first.schema.kind.to_string().into()),
            ("schema_fp", rows.fingerprint.0.into()),
            ("boot_ordinal", rows.boot_ordinal.0.into()),
            ("domain", rows.domain.to_string().into()),
            ("b_lo_ns", run.b.0.into()),
            ("b_hi_ns", run.b.1.into()),
            ("t_min_ns", run.t.0.into()),
            ("t_max_ns", run.t.1.into()),
            ("grade_worst", run.worst.as_str().into()),
            ("track", folder.tracks.track_id(incoming(run.first)).into()),
            ("state", "held".into()),
            ("receiver", folder.settings.receiver.as_str().into()),
            ("incarnation", run.first.position.incarnation.to_string().into()),
            ("landing_lo", linear(&run.first.position).into()),
            ("landing_hi", linear(&run.last.end).into()),
            ("agent_version", agent.into()),
        ]);
        out.push(cells);
    }
    out
}

/// `ops.gaps`, with the UTC of what is missing as far as the boot's clock is known.
fn gaps(folder: &Folder) -> TableRows {
    let mut out = TableRows::new(Ops::Gaps.spec());
    for recorded in &folder.group.gaps {
        let RecordedGap { device, epoch, gap, declared_by, .. } = recorded;
        let ours = *declared_by == "collector";
        // The collector's own gaps know seqs only.
        let on_boot = |value: i64| if ours { Cell::Null } else { value.into() };
        let at = |b: BootNanos| {
            let whose = Incoming { device, epoch: *epoch, boot: gap.boot_ordinal };
            let resolved = folder.tracks.resolve(whose, &[Query { event: b, half_ns: 0 }]);
            resolved.first().filter(|_| !ours).map(|at| at.ts.0)
        };
        let mut cells = event(recorded.received, folder.settings.clock_half_ns, Some(device));
        cells.extend([
            ("gap_id", recorded.id.as_str().into()),
            ("epoch", epoch.to_string().into()),
            ("stream", gap.stream.to_string().into()),
            ("seq_lo", gap.seq_first.0.into()),
            ("seq_hi", gap.seq_last.0.into()),
            ("rows", gap.rows.into()),
            ("bytes", gap.bytes.into()),
            ("stride", gap.stride.into()),
            ("phase", gap.phase.into()),
            ("reason", gap.cause.reason().into()),
            ("cause", gap.cause.cause().into()),
            ("policy_version", gap.policy_version.into()),
            ("declared_by", (*declared_by).into()),
            ("boot_ordinal", on_boot(gap.boot_ordinal.0.into())),
            ("b_lo_ns", on_boot(gap.b_first.0)),
            ("b_hi_ns", on_boot(gap.b_last.0)),
            ("t_lo_ns", at(gap.b_first).into()),
            ("t_hi_ns", at(gap.b_last).into()),
            ("state", if recorded.closed { "closed" } else { "open" }.into()),
            ("detail", gap.note.as_str().into()),
        ]);
        out.push(cells);
    }
    out
}

/// The clock rows of the group, its newest promises, and computed segments: `ops.clock`.
fn clock(folder: &Folder, accounted: &Accounted, now: UtcNanos) -> TableRows {
    let mut out = folder.group.clock.clone();
    for segment in &accounted.segments {
        let mut cells = event(now, folder.settings.clock_half_ns, Some(segment.device()));
        cells.extend(segment.cells());
        out.push(cells);
    }
    for (StreamKey { device, epoch, stream }, (promise, received)) in &folder.group.promises {
        let Promise { boot: BootOrdinal(boot), next_seq, promise_b } = promise;
        let mut cells = event(*received, folder.settings.clock_half_ns, Some(device));
        cells.extend([
            ("epoch", epoch.to_string().into()),
            ("boot_ordinal", (*boot).into()),
            ("row_kind", "heartbeat".into()),
            ("declared_by", "agent".into()),
            ("stream", stream.to_string().into()),
            ("next_seq", next_seq.0.into()),
            ("promise_b_ns", promise_b.0.into()),
        ]);
        out.push(cells);
    }
    out
}
