//! Upkeep: once a day, at a quiet hour, old rows leave by retention, history is thinned and garbage is collected.
//!
//! It runs beside ingest in the one process that has the turn to ingest. Everything it does to the lake is a commit like
//! any other or a deletion of what nobody needs, so it holds up no commit, and may be cut short anywhere.

use crate::config::UpkeepSettings;
use async_trait::async_trait;
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use headwater_lake::{GcOptions, GcProgress, GcReport, Lake, LakeError, RefName, Settle};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NS_PER_HOUR: i64 = 3_600_000_000_000;
const NS_PER_DAY: i64 = 24 * NS_PER_HOUR;
/// The host's UTC may be set while we wait, so it is looked at again after so long.
const NAP_MS_MAX: u64 = 600_000;
/// A settling run waits for real time, however often the clock is set.
const MS_PER_S: u64 = 1000;

/// Tidies until told to stop.
pub async fn run<C: Clock>(
    lake: Lake,
    branch: RefName,
    settings: UpkeepSettings,
    clock: C,
    cancel: CancellationToken,
) {
    if !settings.enabled {
        return;
    }
    describe();
    let mut due = next_due(clock.read().real, settings.at_hour);
    loop {
        let now = clock.read().real;
        if now >= due {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = once(&lake, &branch, &settings, &clock) => {}
            }
            due = next_due(clock.read().real, settings.at_hour);
            continue;
        }
        // A clock that was set back by days would else wait for the old date.
        due = due.min(next_due(now, settings.at_hour));
        let nap_ms = u64::try_from(due.0.saturating_sub(now.0) / 1_000_000).unwrap_or(0).clamp(1, NAP_MS_MAX);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep_until(clock.boot().plus_ms(nap_ms)) => {}
        }
    }
}

/// The first time after `now` that is `at_hour` o'clock UTC.
fn next_due(now: UtcNanos, at_hour: u8) -> UtcNanos {
    let today = now.0.div_euclid(NS_PER_DAY).saturating_mul(NS_PER_DAY);
    let due = today.saturating_add(i64::from(at_hour).saturating_mul(NS_PER_HOUR));
    UtcNanos(if due > now.0 { due } else { due.saturating_add(NS_PER_DAY) })
}

/// Runs of one day while there is more than one run takes: a lake with months of garbage is clean after some days.
const RUNS_MAX: u32 = 8;

/// One day's upkeep. What fails is told and tried again the next day.
async fn once<C: Clock>(lake: &Lake, branch: &RefName, settings: &UpkeepSettings, clock: &C) {
    let now_us = clock.read().real.0.div_euclid(1000);
    match lake.expire(branch, &settings.retention, crate::SOFTWARE, now_us, false).await {
        Ok(report) => {
            for (table, dropped) in &report.tables {
                counter!("headwater_retention_rows_total", "table" => table.to_string())
                    .increment(dropped.rows);
                tracing::info!(%table, rows = dropped.rows, files = dropped.files, "old days left by retention");
            }
        }
        Err(error) => failed("retention", &error),
    }
    let settling = ByClock(clock.clone());
    for _ in 0..RUNS_MAX {
        let options = GcOptions {
            keep: settings.keep,
            grace_us: settings.grace_us,
            settle: settings.settle,
            ..GcOptions::new(clock.read().real.0.div_euclid(1000), crate::SOFTWARE.to_owned())
        };
        match lake.collect_garbage(&options, &settling, &mut |progress| at(progress)).await {
            Ok(report) => {
                done(&report);
                if !report.more {
                    return;
                }
            }
            Err(error @ LakeError::Collecting { .. }) => {
                return tracing::info!(%error, "garbage is left to another run");
            }
            Err(error) => return failed("gc", &error),
        }
    }
}

fn at(progress: GcProgress) {
    if let GcProgress::Sweeping(done, all) = progress {
        tracing::debug!(done, all, "sweeping");
    }
}

fn done(report: &GcReport) {
    counter!("headwater_gc_runs_total").increment(1);
    gauge!("headwater_gc_kept_objects").set(report.objects_kept as f64);
    gauge!("headwater_gc_kept_commits").set(report.commits_kept as f64);
    for (kind, tally) in &report.deleted {
        let kind = format!("{kind:?}").to_lowercase();
        counter!("headwater_gc_deleted_objects_total", "kind" => kind.clone()).increment(tally.objects);
        counter!("headwater_gc_deleted_bytes_total", "kind" => kind).increment(tally.bytes);
    }
    let total = report.total();
    tracing::info!(
        objects = total.objects,
        bytes = total.bytes,
        kept = report.objects_kept,
        thinned_days = report.days_thinned,
        more = report.more,
        "garbage was collected"
    );
}

fn failed(what: &'static str, error: &LakeError) {
    counter!("headwater_upkeep_failed_total", "what" => what).increment(1);
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(what, %error, cause, "upkeep of the lake failed, trying again tomorrow");
}

fn describe() {
    describe_counter!("headwater_gc_runs_total", "runs of the garbage collector that ended well");
    describe_counter!("headwater_gc_deleted_objects_total", "objects deleted as garbage, by what they were");
    describe_counter!("headwater_gc_deleted_bytes_total", "their bytes");
    describe_gauge!("headwater_gc_kept_objects", "objects that kept commits needed at the last run");
    describe_gauge!("headwater_gc_kept_commits", "commits kept at the last run");
    describe_counter!("headwater_retention_rows_total", "rows that left by retention, by table");
    describe_counter!("headwater_upkeep_failed_total", "retention or collection that failed, by which");
}

/// Waits by a clock of ours.
#[derive(Debug)]
pub struct ByClock<C>(pub C);

#[async_trait]
impl<C: Clock> Settle for ByClock<C> {
    async fn settle(&self, how_long: Duration) {
        let until = self.0.boot().plus_ms(how_long.as_secs().saturating_mul(MS_PER_S));
        self.0.sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_a_day() {
        let at = |hours: i64| UtcNanos(hours * NS_PER_HOUR);
        assert_eq!(next_due(at(1), 2), at(2));
        assert_eq!(next_due(at(2), 2), at(26));
        assert_eq!(next_due(at(23), 2), at(26));
        assert_eq!(next_due(at(48), 0), at(72));
        assert_eq!(next_due(UtcNanos(-1), 0), at(0));
    }
}
