//! Loses samples on purpose and asks the receiver how many: its count must be the truth or a question.

use headwater_shims::rx::{LinkStreamState, Missing, SeqStep, Settled};
use proptest::prelude::*;

const PERIOD_US: u32 = 1_000;

fn step(missing: Missing) -> SeqStep {
    SeqStep { restarted: false, missing }
}

/// The frame a device sends for sample number `n` of a boot at time 0.
fn at(state: &mut LinkStreamState, n: u32, count: u8) -> SeqStep {
    let [low, high, ..] = n.to_le_bytes();
    let t_us = u64::from(n) * u64::from(PERIOD_US);
    state.sample(u16::from_le_bytes([low, high]), t_us, false, count)
}

#[test]
fn joining_in_the_middle_is_no_gap() {
    let mut state = LinkStreamState::new(PERIOD_US);
    assert_eq!(at(&mut state, 500, 2), step(Missing::None));
    assert_eq!(at(&mut state, 502, 2), step(Missing::None));
    assert_eq!(at(&mut state, 505, 1), step(Missing::Samples(1)));
}

#[test]
fn the_wrap_is_no_gap() {
    let mut state = LinkStreamState::new(PERIOD_US);
    at(&mut state, 65_530, 6);
    assert_eq!(at(&mut state, 65_536, 1), step(Missing::None));
    assert_eq!(at(&mut state, 65_540, 1), step(Missing::Samples(3)));
}

#[test]
fn time_counts_the_turns_within_thirty_seconds() {
    let mut state = LinkStreamState::new(100);
    assert_eq!(state.sample(10, 0, false, 1), step(Missing::None));
    // 28 s at 100 us are 280 000 samples: four turns and 17 856.
    let seq = 10 + 17_856;
    assert_eq!(state.sample(seq, 28_000_000, false, 1), step(Missing::Samples(279_999)));
}

#[test]
fn a_long_silence_asks_and_hello_settles() {
    let mut state = LinkStreamState::new(PERIOD_US);
    state.hello(0, 0);
    at(&mut state, 0, 10);
    let far = 10 + 3 * 65_536 + 7;
    assert_eq!(at(&mut state, far, 5), step(Missing::Unsettled(7)));
    assert!(state.is_unsettled());
    assert_eq!(at(&mut state, far + 5, 5), step(Missing::None));
    let settled = state.hello(far + 12, u64::from(far + 12) * 1_000);
    assert_eq!(settled, Some(Settled::Samples(3 * 65_536 + 7)));
    assert!(!state.is_unsettled());
    assert_eq!(at(&mut state, far + 12, 1), step(Missing::Samples(2)));
}

#[test]
fn a_stalled_device_is_not_a_turn_of_losses() {
    let mut state = LinkStreamState::new(100);
    state.hello(0, 0);
    state.sample(0, 0, false, 1);
    // 20 s pass on the device's clock and the numbers go on as if nothing had been.
    assert_eq!(state.sample(1, 20_000_000, false, 1), step(Missing::Unsettled(0)));
    assert_eq!(state.hello(2, 20_000_100), Some(Settled::Samples(0)));
}

#[test]
fn a_slow_stream_needs_no_hello() {
    let mut state = LinkStreamState::new(60_000_000);
    state.sample(0, 0, true, 1);
    assert_eq!(state.sample(1, 60_000_000, false, 1), step(Missing::None));
    assert_eq!(state.sample(4, 240_000_000, false, 1), step(Missing::Samples(2)));
}

#[test]
fn an_irregular_stream_asks_at_every_gap() {
    let mut state = LinkStreamState::new(0);
    state.hello(0, 0);
    assert_eq!(state.sample(0, 5, false, 1), step(Missing::None));
    assert_eq!(state.sample(1, 900, false, 1), step(Missing::None));
    assert_eq!(state.sample(3, 950, false, 1), step(Missing::Unsettled(1)));
    assert_eq!(state.hello(65_540, 990), Some(Settled::Samples(1 + 65_536)));
    // What the device dropped after that frame shows with the next one.
    assert_eq!(state.sample(4, 31_000_000, false, 1), step(Missing::Unsettled(0)));
    assert_eq!(state.hello(65_541, 31_000_001), Some(Settled::Samples(0)));
}

#[test]
fn a_repeated_number_is_never_taken_for_losses() {
    let mut state = LinkStreamState::new(PERIOD_US);
    state.hello(0, 0);
    at(&mut state, 0, 1);
    at(&mut state, 1, 1);
    assert_eq!(at(&mut state, 1, 1), step(Missing::Unsettled(65_535)));
    assert_eq!(state.hello(2, 2_000), Some(Settled::WentBack));
    assert_eq!(at(&mut state, 2, 1), step(Missing::None));
}

#[test]
fn first_since_boot_resets_and_counts_what_the_boot_lost() {
    let mut state = LinkStreamState::new(PERIOD_US);
    at(&mut state, 9_000, 1);
    let first = state.sample(3, 4_000, true, 2);
    assert_eq!(first, SeqStep { restarted: true, missing: Missing::Samples(3) });
    assert_eq!(state.sample(5, 6_000, false, 1), step(Missing::None));
    // The very first frame ever restarts nothing.
    let mut fresh = LinkStreamState::new(PERIOD_US);
    assert_eq!(fresh.sample(0, 0, true, 1), step(Missing::None));
}

#[test]
fn time_going_back_is_a_boot_even_without_the_flag() {
    let mut state = LinkStreamState::new(PERIOD_US);
    at(&mut state, 9_000, 1);
    let back = state.sample(2, 5_000, false, 1);
    assert_eq!(back, SeqStep { restarted: true, missing: Missing::Unsettled(2) });
    assert_eq!(state.hello(3, 6_000), Some(Settled::Samples(2)));
    // A little back is jitter of capture times.
    assert!(!state.sample(3, 0, false, 1).restarted);
}

#[test]
fn an_announced_boot_is_not_reported_again() {
    let mut state = LinkStreamState::new(PERIOD_US);
    at(&mut state, 9_000, 1);
    state.restart();
    assert_eq!(state.sample(0, 10, true, 1), step(Missing::None));
}

proptest! {
    /// Frames of any size, any of them lost, numbers far over the wrap: the sum is exact.
    #[test]
    fn losses_are_counted_exactly(
        start in 0..200_000u32,
        frames in prop::collection::vec((1..=20u8, 0..20_000u32), 1..60),
        ppm in -6_000..6_000i64,
    ) {
        let mut state = LinkStreamState::new(PERIOD_US);
        let mut n = start;
        for (i, (count, lost)) in frames.iter().enumerate() {
            n += lost;
            let true_us = i64::from(n) * i64::from(PERIOD_US);
            let t_us = u64::try_from(true_us + true_us / 1_000_000 * ppm).expect("not negative");
            let [low, high, ..] = n.to_le_bytes();
            let seen = state.sample(u16::from_le_bytes([low, high]), t_us, false, *count);
            let expect = if i == 0 || *lost == 0 { Missing::None } else { Missing::Samples(*lost) };
            prop_assert_eq!(seen, step(expect));
            n += u32::from(*count);
        }
    }

    /// Whatever arrives: no panic, and after a HELLO nothing is left open.
    #[test]
    fn survives_anything(
        period_us: u32,
        events in prop::collection::vec((any::<u16>(), any::<u64>(), any::<bool>(), any::<u8>(), any::<Option<u32>>()), 0..40),
    ) {
        let mut state = LinkStreamState::new(period_us);
        for (seq, t_us, first, count, next_seq) in events {
            state.sample(seq, t_us, first, count);
            if let Some(next_seq) = next_seq {
                state.hello(next_seq, t_us);
                prop_assert!(!state.is_unsettled());
            }
        }
    }
}
