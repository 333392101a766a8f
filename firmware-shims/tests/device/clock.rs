//! Clocks: 32 bits widened over wraps, and a clock that runs wrong on purpose, the same in both languages.

use headwater_shims::clock::{ClockExtender, PpmSkew};
use proptest::prelude::*;

use crate::common::Helper;

const WRAP: u64 = 1 << 32;

fn low32(t: u64) -> u32 {
    u32::try_from(t % WRAP).expect("below the wrap")
}

#[test]
fn clock_extender_crosses_wraps() {
    let mut c = Helper::start();
    let mut clock = ClockExtender::new();
    // 71.6 minutes a wrap: reads just before, at and after each, and one read per wrap at least.
    let reads =
        [0, 1, WRAP - 1, WRAP, WRAP + 1, 2 * WRAP - 1, 3 * WRAP - 2, 3 * WRAP, 3 * WRAP + 5, 4 * WRAP + 4];
    for t in reads {
        assert_eq!(clock.now(low32(t)), t);
        if let Some(c) = &mut c {
            assert_eq!(c.ask(&format!("now {}", low32(t))), [t.to_string()]);
        }
        // What an interrupt read before, even on the other side of the wrap.
        for before in [0, 1, 6, WRAP / 2, WRAP - 1] {
            let Some(then) = t.checked_sub(before) else { continue };
            assert_eq!(clock.before(low32(then)), then);
            if let Some(c) = &mut c {
                assert_eq!(c.ask(&format!("before {}", low32(then))), [then.to_string()]);
            }
        }
    }
}

#[test]
fn a_skewed_clock_is_exact_and_never_jumps() {
    let mut clock = PpmSkew::new();
    assert_eq!(clock.skewed(123), 123);
    clock.set(6_000, 1_000_000);
    assert_eq!(clock.skewed(1_000_000), 1_000_000);
    assert_eq!(clock.skewed(2_000_000), 2_006_000);
    clock.set(-30, 2_000_000);
    assert_eq!(clock.skewed(2_000_000), 2_006_000);
    assert_eq!(clock.skewed(102_000_000), 102_006_000 - 3_000);
    // Centuries do not overflow it.
    clock.set(PpmSkew::PPM_MAX, 0);
    let century = 100 * 365 * 86_400 * 1_000_000_u64;
    assert!(clock.skewed(century) > century);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_skewed_clock_runs_forward(changes in prop::collection::vec((-200_000i32..200_000, 0u64..10_000_000), 1..8)) {
        let (mut clock, mut t, mut shown) = (PpmSkew::new(), 0, 0);
        let mut c = Helper::start();
        let mut ask = |line: &str| c.as_mut().map(|c| c.ask(line));
        ask("skew");
        for (ppm, later) in changes {
            t += later;
            let now = clock.skewed(t);
            prop_assert!(now >= shown);
            let theirs = ask(&format!("shows {t}"));
            prop_assert!(theirs.is_none_or(|theirs| theirs == [now.to_string()]));
            clock.set(ppm, t);
            ask(&format!("ppm {ppm} {t}"));
            prop_assert_eq!(clock.skewed(t), now);
            shown = now;
        }
    }
}
