//! What the lake's catalog tells of itself.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Tells the recorder what the catalog's metrics mean.
pub fn describe_catalog() {
    describe_counter!("headwater_catalog_requests_total", "requests to the Iceberg REST catalog, by status");
    describe_counter!(
        "headwater_catalog_changes_total",
        "changes asked for over HTTP, by kind and what became of them"
    );
    describe_counter!("headwater_catalog_busy_total", "changes turned away because too many were under way");
    describe_counter!(
        "headwater_catalog_metadata_total",
        "table metadata asked for, by whether it was in memory"
    );
    describe_gauge!("headwater_catalog_metadata_bytes", "bytes of table metadata in memory");
    describe_counter!(
        "headwater_catalog_audit_failures_total",
        "entries of the audit log that could not be written"
    );
    describe_counter!(
        "headwater_catalog_tokens_refused_total",
        "looks at the file of tokens that left those of before, because of what is in it"
    );
    describe_counter!(
        "headwater_tls_reload_failures_total",
        "changed TLS certificates that could not be used; the one of before stays"
    );
}

/// The file of tokens was read anew.
pub fn tokens_read(file: &std::path::Path, tokens: usize) {
    tracing::info!(file = %file.display(), tokens, "tokens were read anew");
}

/// The file of tokens cannot be used; those of before stay.
pub fn tokens_refused(file: &std::path::Path, reason: &str, at_start: bool) {
    counter!("headwater_catalog_tokens_refused_total").increment(1);
    tracing::warn!(file = %file.display(), reason, at_start, "tokens of before stay in use");
}

/// A request was answered.
pub fn catalog_answered(status: u16) {
    counter!("headwater_catalog_requests_total", "status" => status.to_string()).increment(1);
}

/// A change was made or not.
pub fn catalog_change(op: &'static str, result: &'static str) {
    counter!("headwater_catalog_changes_total", "op" => op, "result" => result).increment(1);
}

/// A change was turned away for room.
pub fn catalog_busy() {
    counter!("headwater_catalog_busy_total").increment(1);
}

/// Metadata was asked for.
pub fn catalog_metadata(hit: bool) {
    let from = if hit { "memory" } else { "store" };
    counter!("headwater_catalog_metadata_total", "from" => from).increment(1);
}

/// Metadata in memory.
pub fn catalog_metadata_bytes(bytes: usize) {
    gauge!("headwater_catalog_metadata_bytes").set(super::as_f64(bytes as u64));
}

/// The audit log refused. What should have been written is in this program's own log, beside this line.
pub fn catalog_audit_failed(error: &std::io::Error) {
    counter!("headwater_catalog_audit_failures_total").increment(1);
    tracing::error!(%error, "the audit log cannot be written");
}
