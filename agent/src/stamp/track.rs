//! Rows of `hw/clock`: what this gateway knows of UTC, for the collector to make intervals of.

use crate::clock::KernelSync;
use crate::ship::ClockExchange;
use headwater_core::id::BootId;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, ClockDomain, ClockReading, Grade, Latency, NS_PER_MS, StampKind};
use std::collections::BTreeMap;

/// Between samples at first, ms: ten minutes in which clocks settle after boot.
pub const SAMPLE_FIRST_MS: u64 = 16_000;
/// Between samples later, ms.
pub const SAMPLE_LATER_MS: u64 = 64_000;
/// How long "at first" is, ms.
pub const FIRST_MS: u64 = 600_000;
/// Least half width claimed for a kernel that says it is synchronised, ns: timesyncd writes a maximal
/// error of zero, so its word is taken for no better than its own accuracy constant.
const KERNEL_HALF_NS_MIN: i64 = 200 * NS_PER_MS;

const BOOT: i64 = 0;
const SAMPLE: i64 = 1;
const EXCHANGE: i64 = 2;
const NOBODY: i64 = 0;
const KERNEL: i64 = 1;
const COLLECTOR: i64 = 4;

/// When the next sample is due, if one was made at `now` and the agent started at `started`.
#[must_use]
pub fn next_sample(started: BootNanos, now: BootNanos) -> BootNanos {
    let settled = now >= started.plus_ms(FIRST_MS);
    now.plus_ms(if settled { SAMPLE_LATER_MS } else { SAMPLE_FIRST_MS })
}

/// Fields by name; what is not given is unknown, never 0.
pub(super) fn row(t: BootNanos, given: &[(&str, Value)]) -> Reading {
    let given: BTreeMap<&str, &Value> = given.iter().map(|(name, value)| (*name, value)).collect();
    let schema = builtin::clock();
    debug_assert!(given.keys().all(|name| schema.fields.iter().any(|field| field.name.as_str() == *name)));
    let values = schema
        .fields
        .iter()
        .map(|field| given.get(field.name.as_str()).map_or(Value::Null, |v| (*v).clone()));
    let values = values.collect();
    let (latency, kind, domain) = (Latency::NONE, StampKind::Instant, ClockDomain::BOOT);
    Reading { t, latency, kind, domain, values, blob: None }
}

fn grade(grade: Grade) -> Value {
    Value::I64(grade.code().into())
}

/// The row that opens a boot (or another run of the agent in it).
#[must_use]
pub fn boot(reading: ClockReading, boot_id: BootId) -> Reading {
    row(
        reading.b1,
        &[
            ("row_kind", Value::I64(BOOT)),
            ("b1", Value::I64(reading.b1.0)),
            ("real", Value::I64(reading.real.0)),
            ("b2", Value::I64(reading.b2.0)),
            ("raw", Value::I64(reading.raw_ns)),
            ("source", Value::I64(NOBODY)),
            ("grade", grade(Grade::OrderingOnly)),
            ("boot_id", Value::Bytes(boot_id.0.to_vec())),
            ("detail", Value::Utf8(format!("headwater-agent {}", env!("CARGO_PKG_VERSION")))),
        ],
    )
}

/// A bracketed read with what the kernel says of its synchronisation.
#[must_use]
pub fn sample(reading: ClockReading, kernel: KernelSync) -> Reading {
    let half = kernel.max_error_us.saturating_mul(1_000).max(KERNEL_HALF_NS_MIN);
    let (half, claimed) =
        if kernel.synced { (Value::I64(half), Grade::Estimated) } else { (Value::Null, Grade::OrderingOnly) };
    let detail = format!(
        "status {:#x} maxerror_us {} esterror_us {}",
        kernel.status, kernel.max_error_us, kernel.est_error_us
    );
    row(
        reading.b1,
        &[
            ("row_kind", Value::I64(SAMPLE)),
            ("b1", Value::I64(reading.b1.0)),
            ("real", Value::I64(reading.real.0)),
            ("b2", Value::I64(reading.b2.0)),
            ("raw", Value::I64(reading.raw_ns)),
            ("half", half),
            ("source", Value::I64(KERNEL)),
            ("grade", grade(claimed)),
            ("detail", Value::Utf8(detail)),
        ],
    )
}

/// An exchange with a collector.
#[must_use]
pub fn exchange(exchange: ClockExchange) -> Reading {
    row(
        exchange.t4,
        &[
            ("row_kind", Value::I64(EXCHANGE)),
            ("source", Value::I64(COLLECTOR)),
            ("grade", grade(exchange.grade)),
            ("t1", Value::I64(exchange.t1.0)),
            ("t2", Value::I64(exchange.t2.0)),
            ("t3", Value::I64(exchange.t3.0)),
            ("t4", Value::I64(exchange.t4.0)),
            ("e_c", Value::I64(exchange.e_c_ns)),
            ("source_id", Value::I64(exchange.source_id.cast_signed())),
        ],
    )
}

/// Best grade the gateway has reason to claim for now.
#[must_use]
pub fn claimed(kernel: KernelSync, exchanged: Option<Grade>) -> Grade {
    let own = if kernel.synced { Grade::Estimated } else { Grade::OrderingOnly };
    exchanged.map_or(own, |grade| grade.max(own))
}
