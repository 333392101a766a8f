//! What is worth telling: one place for the names of counters and for the log lines that go with them.
//!
//! WARN: surprised, no data lost. ERROR: data lost or a person is needed.

mod catalog;

pub use catalog::*;

use crate::receive::clock::OwnClock;
use crate::receive::{CreditState, Refusal, RefusalKind};
use headwater_core::time::{Grade, NS_PER_MS, NS_PER_S, UtcNanos};
use headwater_core::wire::chain::{EXPIRY_NOTICE_DAYS, expiry_notice};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error; `RUST_LOG` chooses what (default `info`). Later calls do nothing.
pub fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A file or a journal has no colours.
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Tells the recorder what the receiving metrics mean. Call once the recorder is installed.
pub fn describe() {
    describe_counter!("headwater_received_messages_total", "messages taken from the broker");
    describe_counter!("headwater_received_bytes_total", "payload bytes taken from the broker");
    describe_counter!("headwater_refused_messages_total", "messages refused, by reason");
    describe_counter!("headwater_sent_acks_total", "acks handed to the broker");
    describe_counter!("headwater_dropped_acks_total", "acks dropped because the link was full or down");
    describe_counter!("headwater_landed_records_total", "records synced to the landing log");
    describe_counter!("headwater_landed_bytes_total", "payload bytes synced to the landing log");
    describe_histogram!("headwater_landing_sync_seconds", "time to write and sync one group");
    describe_gauge!("headwater_staging_bytes", "bytes of unfinished objects");
    describe_gauge!("headwater_staging_dropped", "unfinished objects dropped for room or age");
    describe_gauge!(
        "headwater_epochs_forgotten",
        "epochs of devices that had too many: what is no more known of them (watermarks or declarations)"
    );
    describe_gauge!("headwater_landed_set_forgotten", "runs and rows forgotten at a bound, to be sent again");
    describe_gauge!("headwater_quarantine_items", "items held in quarantine, by reason");
    describe_gauge!("headwater_quarantine_rows", "rows held in quarantine, by reason");
    describe_counter!("headwater_ingest_quarantined_total", "items set aside, by reason");
    describe_counter!("headwater_ingest_quarantined_rows_total", "rows set aside, by reason");
    describe_counter!(
        "headwater_quarantine_replayed_rows_total",
        "rows that went from quarantine to the lake"
    );
    describe_counter!(
        "headwater_ingest_rows_without_blob_total",
        "rows that went in without their object: given up by the gateway, or for room or age here"
    );
    describe_counter!(
        "headwater_ingest_waiting_overflow_total",
        "halves and sections given up for room or age"
    );
    describe_gauge!("headwater_credit_charged_bytes", "bytes devices were granted that did not arrive yet");
    describe_gauge!("headwater_credit_peak_bytes", "the most of that since the start");
    describe_gauge!("headwater_credit_limit_bytes", "what it may be now; shrinks while landing is slow");
    describe_gauge!("headwater_credit_waiting_devices", "devices in turn for credit");
    describe_gauge!("headwater_quota_over_devices", "devices that get no credit because of a quota");
    describe_counter!("headwater_credit_written_off_bytes_total", "bytes granted and taken back, unused");
    describe_counter!("headwater_credit_late_bytes_total", "bytes that came on credit taken back before");
    describe_counter!("headwater_credit_unasked_bytes_total", "bytes that came without credit");
    describe_gauge!("headwater_landing_queue_peak_bytes", "the most bytes that waited for a sync");
    describe_gauge!("headwater_staging_peak_bytes", "the most bytes of unfinished objects");
    describe_gauge!("headwater_receivers_alive", "receivers that share this landing folder");
    describe_gauge!("headwater_shards_held", "shards this receiver holds a lease of");
    describe_counter!("headwater_tailed_records_total", "records read from other receivers' logs");
    describe_counter!("headwater_sharing_errors_total", "looks at other receivers that failed");
    describe_counter!(
        "headwater_signing_failures_total",
        "signatures that identity.sign_command did not give"
    );
    describe_gauge!("headwater_revoked_certificates", "certificates that the fleet's lists revoke");
    describe_gauge!("headwater_own_certificate_revoked", "1 if our own signing certificate is revoked");
    describe_gauge!("headwater_certificates_usable", "0 while changed certificate files cannot be used");
    describe_gauge!(
        "headwater_certificate_ends_seconds",
        "when our own certificate ends, s since 1970, by use"
    );
    describe_gauge!(
        "headwater_device_certificates_ending",
        "devices whose newest signing certificate ends within so many days (0: has ended)"
    );
    describe_gauge!("headwater_gateway_clocks", "gateways by the grade of their newest rows");
    describe_gauge!("headwater_time_beyond_streams", "streams timed worse than [[time]] requires");
    describe_counter!(
        "headwater_time_beyond_rows_total",
        "rows committed that are timed worse than required"
    );
    describe_gauge!("headwater_ingest_clock_wait_bytes", "bytes of rows that wait for a better clock");
    describe_counter!(
        "headwater_ingest_clock_wait_ended_rows_total",
        "rows that waited for a better clock, by why they wait no more: clock, time or room"
    );
    describe_gauge!("headwater_corrections_due_rows", "rows whose time a better clock track would change");
    describe_gauge!(
        "headwater_corrections_rows_to_write",
        "rows in the days of these: what a correcting commit would write again"
    );
    describe_counter!("headwater_corrections_rows_corrected_total", "rows whose time was corrected");
    describe_counter!(
        "headwater_corrections_rows_undeclared_total",
        "rows left as they are because their declaration is not known any more"
    );
    describe_counter!(
        "headwater_corrections_realign_days_total",
        "days of devices whose aligned rows were made from rows corrected since"
    );
    describe_counter!("headwater_commit_bytes_total", "bytes of data files that commits of rows wrote");
    describe_gauge!(
        "headwater_lake_manifest_bytes",
        "bytes of manifests in memory, so that merges read nothing"
    );
    describe_counter!("headwater_lake_manifests_forgotten_total", "manifests that left memory at its bound");
    describe_counter!("headwater_compact_bytes_total", "bytes of data files written again");
    describe_counter!("headwater_compact_files_total", "files that merges and corrections took away");
    describe_counter!("headwater_compact_commits_total", "commits beside those of rows, by kind");
    describe_counter!("headwater_compact_dropped_total", "merges that somebody's commit made pointless");
    describe_counter!("headwater_compact_failures_total", "rounds of compaction that failed");
    describe_gauge!("headwater_compact_backlog_files", "files due to be merged in a later round");
    describe_gauge!(
        "headwater_write_amplification",
        "bytes written again per byte ingested, since the start"
    );
    describe_counter!("headwater_corrections_runs_merged_total", "runs judged as one for want of room");
    describe_gauge!("headwater_own_clock_bound_seconds", "greatest error of this host's UTC");
    describe_gauge!(
        "headwater_own_clock_grade",
        "2 if that is a promise, 1 if not: then gateways get no guaranteed bounds"
    );
    describe_gauge!("headwater_own_clock_synchronised", "0 while nobody keeps this host's clock");
    describe_gauge!("headwater_own_clock_alarm", "1 while it is unsynchronised or beyond clock.alarm_ms");
    describe_gauge!("headwater_mqtt_connected", "1 while connected to the broker");
    for kind in RefusalKind::ALL {
        counter!("headwater_refused_messages_total", "reason" => kind.as_str()).absolute(0);
    }
}

/// A message came in.
pub fn message_received(bytes: usize) {
    counter!("headwater_received_messages_total").increment(1);
    counter!("headwater_received_bytes_total").increment(bytes as u64);
}

/// A message was refused.
pub fn message_refused(refusal: &Refusal) {
    let reason = refusal.kind.as_str();
    counter!("headwater_refused_messages_total", "reason" => reason).increment(1);
    let device = refusal.device.as_ref().map(ToString::to_string);
    let device = device.as_deref().unwrap_or("-");
    match refusal.kind {
        // Expected after a restart or a move: answered with a request for a hello.
        RefusalKind::UnknownKey => {
            tracing::info!(device, detail = refusal.detail, "message of an unknown key")
        }
        _ => tracing::warn!(device, reason, detail = refusal.detail, "message refused"),
    }
}

/// A group was synced.
pub fn group_synced(records: usize, bytes: usize, took_ns: i64) {
    counter!("headwater_landed_records_total").increment(records as u64);
    counter!("headwater_landed_bytes_total").increment(bytes as u64);
    let micros = u32::try_from(took_ns / 1_000).unwrap_or(u32::MAX);
    histogram!("headwater_landing_sync_seconds").record(f64::from(micros) / 1e6);
}

/// Acks were handed to the broker.
pub fn acks_sent(n: usize) {
    counter!("headwater_sent_acks_total").increment(n as u64);
}

/// An ack could not be handed over; the next one says the same and more.
pub fn ack_dropped() {
    counter!("headwater_dropped_acks_total").increment(1);
}

/// State of the receiver's bounded memories.
pub fn receiver_state(staging_bytes: usize, staging_dropped: u64, forgotten: u64) {
    gauge!("headwater_staging_bytes").set(as_f64(staging_bytes as u64));
    gauge!("headwater_staging_dropped").set(as_f64(staging_dropped));
    gauge!("headwater_landed_set_forgotten").set(as_f64(forgotten));
}

/// Epochs whose watermarks and declarations were forgotten at a bound.
pub fn epochs_forgotten(watermarks: u64, declarations: u64) {
    gauge!("headwater_epochs_forgotten", "what" => "watermarks").set(as_f64(watermarks));
    gauge!("headwater_epochs_forgotten", "what" => "declarations").set(as_f64(declarations));
}

/// The most bytes that ever waited for a sync, and the most of unfinished objects.
pub fn peaks(landing: usize, staging: usize) {
    gauge!("headwater_landing_queue_peak_bytes").set(as_f64(landing as u64));
    gauge!("headwater_staging_peak_bytes").set(as_f64(staging as u64));
}

/// The fleet's credit.
pub fn credit_state(state: &CreditState) {
    gauge!("headwater_credit_charged_bytes").set(as_f64(state.charged));
    gauge!("headwater_credit_peak_bytes").set(as_f64(state.peak));
    gauge!("headwater_credit_limit_bytes").set(as_f64(state.limit));
    gauge!("headwater_credit_waiting_devices").set(as_f64(state.waiting));
    gauge!("headwater_quota_over_devices").set(as_f64(state.over_quota));
    counter!("headwater_credit_written_off_bytes_total").absolute(state.counters.written_off);
    counter!("headwater_credit_late_bytes_total").absolute(state.counters.late);
    counter!("headwater_credit_unasked_bytes_total").absolute(state.counters.unasked);
}

/// What the fleet's lists revoke.
pub fn revoked_certificates(n: usize, own: bool) {
    gauge!("headwater_revoked_certificates").set(as_f64(n as u64));
    gauge!("headwater_own_certificate_revoked").set(if own { 1.0 } else { 0.0 });
}

/// A program that signs gave no signature; the ack is left out.
pub fn signing_failed() {
    counter!("headwater_signing_failures_total").increment(1);
}

/// Whether the files of certificates could be used when they changed last.
pub fn certificates_usable(usable: bool) {
    gauge!("headwater_certificates_usable").set(if usable { 1.0 } else { 0.0 });
}

/// When certificates end: our own, and how many devices' newest ones do soon.
pub fn certificates(sign: UtcNanos, tls: UtcNanos, devices: &[UtcNanos], now: UtcNanos) {
    for (key_use, end) in [("sign", sign), ("tls", tls)] {
        let seconds = u64::try_from(end.0 / NS_PER_S).unwrap_or(0);
        gauge!("headwater_certificate_ends_seconds", "use" => key_use).set(as_f64(seconds));
    }
    let notices: Vec<u32> = devices.iter().filter_map(|end| expiry_notice(*end, now)).collect();
    for days in EXPIRY_NOTICE_DAYS.into_iter().chain([0]) {
        let n = notices.iter().filter(|notice| **notice <= days).count();
        gauge!("headwater_device_certificates_ending", "days" => days.to_string()).set(as_f64(n as u64));
    }
}

/// This host's own clock; `tell` if that is news.
pub fn own_clock(own: &OwnClock, alarm_ns: i64, tell: bool) {
    let alarm = own.is_alarming(alarm_ns);
    gauge!("headwater_own_clock_bound_seconds").set(as_f64(own.bound_ns.unsigned_abs()) / 1e9);
    gauge!("headwater_own_clock_grade").set(f64::from(own.grade.code()));
    gauge!("headwater_own_clock_synchronised").set(if own.synchronised { 1.0 } else { 0.0 });
    gauge!("headwater_own_clock_alarm").set(if alarm { 1.0 } else { 0.0 });
    if !tell {
        return;
    }
    let (bound_ms, grade, source, why) =
        (own.bound_ns / NS_PER_MS, own.grade.as_str(), own.source, own.why.as_str());
    match own.grade {
        Grade::Guaranteed if !alarm => tracing::info!(bound_ms, grade, source, "own clock"),
        _ if own.synchronised && !alarm => {
            tracing::warn!(bound_ms, grade, source, why, "own clock promises no bound")
        }
        _ if own.synchronised => {
            tracing::error!(bound_ms, grade, source, why, "own clock is beyond clock.alarm_ms")
        }
        _ => tracing::error!(
            bound_ms,
            grade,
            source,
            why,
            "own clock is not synchronised: no guaranteed bounds"
        ),
    }
}

/// The broker's connection came or went.
pub fn mqtt_connected(connected: bool) {
    gauge!("headwater_mqtt_connected").set(if connected { 1.0 } else { 0.0 });
}

/// Gauges are floats; 2^53 is beyond any of these counts.
#[expect(clippy::cast_precision_loss, reason = "a gauge beyond 2^53 may round")]
pub(crate) fn as_f64(n: u64) -> f64 {
    n as f64
}
