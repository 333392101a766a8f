//! Worlds made by hand: one thing goes wrong, at each place where it can.

use headwater_tests::simulated::{Fault, Outcome, Plan, Scale, Shape, What, happen};

/// A quiet gateway that captures for `span_s`.
fn shape(span_s: u64) -> Shape {
    Shape {
        gateways: 1,
        span_ms: span_s * 1_000,
        capture_ms: 2_000,
        rows: 5,
        picture_every: 3,
        picture_bytes: 20_000,
        alarm_every: 4,
        spool_bytes: 64 << 20,
        durable: false,
        message_bytes_max: 96 * 1024,
        linger_ms: 500,
        commit_ms: 2_000,
        loses_index: false,
    }
}

fn fault(at_s: u64, for_s: u64, what: What) -> Fault {
    Fault { at_ms: at_s * 1_000, for_ms: for_s * 1_000, gateway: 0, what }
}

/// Lets it happen; everything must hold.
fn holds(shape: Shape, faults: Vec<Fault>) -> Outcome {
    let plan = Plan { seed: 7, scale: Scale::Minutes, shape, faults };
    let outcome = happen(&plan, None, false);
    assert!(outcome.violations.is_empty(), "{plan}{:#?}", outcome.violations);
    outcome
}

#[test]
fn nothing_goes_wrong_and_nothing_is_said_twice() {
    let outcome = holds(shape(30), Vec::new());
    assert!(outcome.tries == 1 && outcome.settled_ms < 10_000, "{outcome:?}");
    assert!(outcome.alarm_ms_max < 1_000, "{outcome:?}");
}

#[test]
fn a_collector_that_crashes_at_every_step_keeps_its_word() {
    for step in 0..60 {
        for power in [false, true] {
            for durable in [false, true] {
                let shape = Shape { durable, ..shape(12) };
                holds(shape, vec![fault(4, 3, What::CollectorAt { step, power })]);
            }
        }
    }
}

#[test]
fn a_collector_whose_disk_loses_power_at_every_change_keeps_its_word() {
    for changes in 0..30 {
        holds(shape(12), vec![fault(3, 3, What::CollectorPower(changes))]);
    }
}

#[test]
fn a_gateway_that_loses_power_at_every_change_of_its_card_keeps_what_it_captured() {
    for changes in 0..60 {
        let shape = Shape { loses_index: changes % 2 == 0, ..shape(16) };
        holds(shape, vec![fault(3, 3, What::AgentPower(changes))]);
    }
}

#[test]
fn a_slow_link_carries_200_kb_pictures_without_ending_and_alarms_pass_them() {
    let shape = Shape {
        capture_ms: 4_000,
        picture_every: 5,
        picture_bytes: 200_000,
        message_bytes_max: 32 * 1024,
        ..shape(180)
    };
    let outcome = holds(shape, vec![fault(0, 400, What::Slow(20_000))]);
    assert_eq!(outcome.tries, 1, "{outcome:?}");
    // What is in the pipe before it: a third of a keepalive of 60 s at this rate, and a part.
    assert!(outcome.alarm_ms_max < 25_000, "{outcome:?}");
}

#[test]
fn a_broker_that_closes_on_every_publish_is_asked_ever_more_rarely() {
    let outcome = holds(shape(30), vec![fault(5, 600, What::ClosesOnPublish)]);
    // Full jitter up to 300 s: ten minutes see some dozen tries.
    assert!((3..30).contains(&outcome.tries), "{outcome:?}");
}

#[test]
fn a_broker_that_never_acks_is_left_and_holds_nothing_up_for_ever() {
    let outcome = holds(shape(30), vec![fault(5, 300, What::NeverAcks)]);
    assert!((2..30).contains(&outcome.tries), "{outcome:?}");
}

#[test]
fn messages_are_cut_anew_when_the_broker_limit_falls() {
    let faults = vec![fault(5, 40, What::Limit(4_000)), fault(6, 1, What::Cut), fault(30, 1, What::Cut)];
    holds(Shape { picture_every: 1, ..shape(40) }, faults);
}

#[test]
fn a_broker_that_forgets_what_it_acked_costs_time_only() {
    for second in 1..20 {
        let faults = vec![
            fault(1, 30, What::Delay(5_000)),
            fault(second, 1, What::BrokerAway { amnesia: true }),
            fault(second + 4, 1, What::BrokerAway { amnesia: true }),
        ];
        holds(shape(20), faults);
    }
}

#[test]
fn a_silent_cut_is_found_and_old_acks_trim_nothing() {
    let faults = vec![
        fault(6, 1, What::SilentCut),
        fault(7, 1, What::OldAcks),
        fault(40, 1, What::CollectorKilled),
        fault(42, 1, What::OldAcks),
    ];
    let outcome = holds(shape(60), faults);
    assert!(outcome.tries <= 4, "{outcome:?}");
}

#[test]
fn a_clock_of_1970_and_one_that_jumps_change_nothing() {
    let day = 86_400_000_000_000;
    let faults = vec![
        fault(2, 1, What::Clock1970),
        fault(3, 1, What::Cut),
        fault(12, 1, What::ClockStep(day)),
        fault(20, 1, What::ClockStep(-day)),
        fault(24, 1, What::CollectorKilled),
    ];
    holds(shape(40), faults);
}

#[test]
fn a_card_too_small_for_an_outage_tells_what_it_let_go() {
    let shape = Shape { spool_bytes: 60_000, capture_ms: 500, picture_every: 2, ..shape(120) };
    let outcome = holds(shape, vec![fault(2, 110, What::Partition)]);
    assert!(outcome.evicted > 20, "{outcome:?}");
}
