//! Rows of every kind and age, and what is left of those that lie.

use super::*;
use headwater_core::schema::builtin;

/// A row of today's schema, by field names.
fn row(fields: &[(&str, i64)]) -> ClockRow {
    let schema = builtin::clock();
    let mut values = vec![Value::Null; schema.fields.len()];
    for (name, n) in fields {
        let place = schema.fields.iter().position(|field| field.name.as_str() == *name).unwrap();
        values[place] = Value::I64(*n);
    }
    ClockRow::from_values(&schema, &values).unwrap()
}

const SAMPLE: [(&str, i64); 7] =
    [("row_kind", 1), ("b1", 10), ("real", 1_000), ("b2", 12), ("half", 7), ("source", 1), ("grade", 2)];

#[test]
fn a_sample_is_a_constraint_and_a_raw_reading() {
    let mut fields = SAMPLE.to_vec();
    fields.extend([("raw", 9), ("freq_ppb", -3)]);
    let statements = statements_of(&row(&fields));
    let reading = RawReading { at: BootNanos(10), width_ns: 2, raw_ns: Some(9), freq_ppb: Some(-3) };
    assert_eq!(statements[0], Statement::Raw(reading));
    let Statement::Constraint(constraint) = statements[1] else { panic!("{statements:?}") };
    assert_eq!(constraint.source(), ClockSource::Kernel);
    // What a kernel claims is capped where it is used.
    assert_eq!(constraint.claims(0).upper.unwrap().grade, Grade::Estimated);
}

#[test]
fn an_rtc_a_hand_and_nobody_bound_nothing() {
    for source in [0, 7, 8] {
        let mut fields = SAMPLE;
        fields[5].1 = source;
        for statement in statements_of(&row(&fields)) {
            let Statement::Constraint(constraint) = statement else { panic!("{statement:?}") };
            assert_eq!(constraint.claims(0).upper, None);
        }
    }
}

#[test]
fn what_is_missing_or_crooked_is_no_constraint() {
    let without = |name: &str| SAMPLE.iter().copied().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    for name in ["b1", "b2", "real", "half"] {
        assert_eq!(statements_of(&row(&without(name))), [], "{name}");
    }
    let mut crooked = SAMPLE;
    crooked[3].1 = 9;
    assert_eq!(statements_of(&row(&crooked)), [], "the bracket closes before it opens");
    let mut negative = SAMPLE;
    negative[4].1 = -1;
    assert_eq!(statements_of(&row(&negative)), []);
    assert_eq!(ClockRow::from_values(&builtin::gps_fix(), &[]), None);
}

#[test]
fn a_row_of_an_older_agent_still_reads() {
    let mut schema = builtin::clock();
    schema.fields.truncate(16);
    let mut values = vec![Value::Null; 16];
    for (place, n) in [(0, 1), (1, 10), (2, 1_000), (3, 12), (5, 7), (6, 2), (7, 2)] {
        values[place] = Value::I64(n);
    }
    let row = ClockRow::from_values(&schema, &values).unwrap();
    assert_eq!((row.freq_ppb, row.domain, row.event.as_deref()), (None, None, None));
    assert_eq!(statements_of(&row).len(), 1);
}

#[test]
fn edges_events_and_devices_read() {
    let edge = row(&[("row_kind", 4), ("b1", 5), ("real", 1_000), ("half", 20), ("source", 6), ("grade", 2)]);
    assert!(matches!(
        statements_of(&edge)[..],
        [Statement::Constraint(Constraint::Edge { source: ClockSource::GpsPps, latency_ns: Some(20), .. })]
    ));
    let foreign = row(&[("row_kind", 4), ("b1", 5), ("real", 1_000), ("source", 2), ("grade", 2)]);
    assert_eq!(statements_of(&foreign), [], "chrony has no edges");
    let suspend = row(&[("row_kind", 3), ("b1", 5), ("event", 2), ("source", 0), ("grade", 0)]);
    assert_eq!(statements_of(&suspend), [Statement::Event { at: BootNanos(5), event: ClockEvent::Suspend }]);
    let mut ping = vec![("row_kind", 5), ("source", 10), ("grade", 2), ("domain", 3), ("rho_ppb", 30_000)];
    ping.extend([("t1", 1), ("t2", 2), ("t3", 3), ("t4", 4), ("w_ping", 86_000)]);
    let [Statement::Device(exchange)] = statements_of(&row(&ping))[..] else { panic!() };
    assert_eq!((exchange.domain, exchange.w_ping_ns, exchange.w_pong_ns), (ClockDomain(3), 86_000, 0));
    assert_eq!(exchange.rho_ppb, Some(30_000), "of the device, not of the gateway");
}

#[test]
fn a_boot_may_tell_its_crystal() {
    let boot =
        row(&[("row_kind", 0), ("b1", 5), ("raw", 4), ("rho_ppb", 2_000), ("source", 0), ("grade", 0)]);
    assert_eq!(statements_of(&boot).len(), 2);
    assert!(statements_of(&boot).contains(&Statement::Rate(2_000)));
}

#[test]
fn a_table_row_says_what_the_message_said() {
    let message = row(&[
        ("row_kind", 2),
        ("t1", 1),
        ("t2", 2),
        ("t3", 3),
        ("t4", 4),
        ("e_c", 5),
        ("source", 4),
        ("grade", 2),
    ]);
    let text = |name: &str| match name {
        "row_kind" => Some("exchange".to_owned()),
        "source" => Some("collector_exchange".to_owned()),
        "grade" => Some("guaranteed".to_owned()),
        _ => None,
    };
    let long = |name: &str| match name {
        "t1_ns" => Some(1),
        "t2_ns" => Some(2),
        "t3_ns" => Some(3),
        "t4_ns" => Some(4),
        "e_c_ns" => Some(5),
        _ => None,
    };
    let table = ClockRow::from_table(text, long).unwrap();
    assert_eq!(statements_of(&table), statements_of(&message));
    assert_eq!(ClockRow::from_table(|_| None, |_| None), None, "a heartbeat has no grade");
}
