//! Rows of `hw/clock` about the clocks of attached devices.

use super::track::row;
use headwater_core::ports::{DeviceClockEvent, DeviceExchange};
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Logical, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Grade};

/// Code of `name` in an enum field of the kind `clock`.
fn code(field: &str, name: &str) -> Value {
    let schema = builtin::clock();
    let names = schema.fields.iter().find(|of| of.name.as_str() == field).map(|of| &of.logical);
    let place = match names {
        Some(Logical::Enum(names)) => names.iter().position(|known| known == name),
        _ => None,
    };
    debug_assert!(place.is_some(), "{field} knows {name}");
    place.and_then(|place| i64::try_from(place).ok()).map_or(Value::Null, Value::I64)
}

fn grade(grade: Grade) -> Value {
    Value::I64(grade.code().into())
}

/// The row of what was learned of a device's clock.
#[must_use]
pub(super) fn device_clock(event: &DeviceClockEvent) -> Reading {
    match event {
        DeviceClockEvent::Begins { domain, at, detail } => begins(*domain, *at, detail),
        DeviceClockEvent::Met(exchange) => met(exchange),
    }
}

fn begins(domain: ClockDomain, at: BootNanos, detail: &str) -> Reading {
    row(
        at,
        &[
            ("row_kind", code("row_kind", "event")),
            ("event", code("event", "device_restart")),
            ("b1", Value::I64(at.0)),
            ("source", code("source", "device")),
            ("grade", grade(Grade::OrderingOnly)),
            ("domain", Value::I64(domain.0.into())),
            ("detail", Value::Utf8(detail.to_owned())),
        ],
    )
}

fn met(exchange: &DeviceExchange) -> Reading {
    row(
        exchange.t4,
        &[
            ("row_kind", code("row_kind", "device_exchange")),
            ("source", code("source", "device")),
            ("grade", grade(exchange.grade)),
            ("domain", Value::I64(exchange.domain.0.into())),
            ("t1", Value::I64(exchange.t1.0)),
            ("t2", Value::I64(exchange.t2_ns)),
            ("t3", Value::I64(exchange.t3_ns)),
            ("t4", Value::I64(exchange.t4.0)),
            ("w_ping", Value::I64(exchange.w_ping_ns)),
            ("w_pong", Value::I64(exchange.w_pong_ns)),
            ("rho_ppb", Value::I64(exchange.rho_ppb)),
            ("detail", Value::Utf8(exchange.detail.clone())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a row by name, without those it does not have.
    fn told(reading: &Reading) -> String {
        let schema = builtin::clock();
        assert_eq!(reading.values.len(), schema.fields.len());
        let of = schema.fields.iter().zip(&reading.values);
        for (field, value) in of.clone() {
            assert!(value.fits(field), "{} {value:?}", field.name);
        }
        let parts = of.filter_map(|(field, value)| match (value, &field.logical) {
            (Value::I64(n), Logical::Enum(names)) => {
                Some(format!("{}={}", field.name, names[usize::try_from(*n).unwrap()]))
            }
            (Value::I64(n), _) => Some(format!("{}={n}", field.name)),
            (Value::Utf8(text), _) => Some(format!("{}={text}", field.name)),
            _ => None,
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rows_say_what_the_schema_asks_for() {
        let domain = ClockDomain(7);
        let began = DeviceClockEvent::Begins { domain, at: BootNanos(5), detail: "imu: first heard".into() };
        assert_eq!(
            told(&device_clock(&began)),
            "row_kind=event b1=5 source=device grade=0 detail=imu: first heard event=device_restart domain=7"
        );
        let met = DeviceClockEvent::Met(DeviceExchange {
            domain,
            t1: BootNanos(10),
            t2_ns: 1_000,
            t3_ns: 2_000,
            t4: BootNanos(40),
            w_ping_ns: 3,
            w_pong_ns: 4,
            rho_ppb: 50_000,
            grade: Grade::Guaranteed,
            detail: "imu sim-1".into(),
        });
        assert_eq!(
            told(&device_clock(&met)),
            "row_kind=device_exchange source=device grade=2 t1=10 t2=1000 t3=2000 t4=40 detail=imu sim-1 domain=7 \
             w_ping=3 w_pong=4 rho_ppb=50000"
        );
    }
}
