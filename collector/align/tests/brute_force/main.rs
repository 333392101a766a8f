//! The engine against its rules written down a second time, brute force, over thousands of small and nasty worlds.
//!
//! `HEADWATER_ALIGN_CASES=200000 cargo test -p headwater-align --test brute_force` takes more of them.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test of small numbers: a wrong one must panic"
)]

mod cell;
mod oracle;
mod world;

use cell::{Cells, rows};
use headwater_align::engine::{Aligned, Options, Plan, Run, align};
use proptest::prelude::*;
use world::{Dice, Family, Sample, Wish, World};

/// Cases of each of four tests; a debug build takes the better part of a minute for all.
const CASES: u32 = 5_100;

fn cases() -> ProptestConfig {
    let wanted = std::env::var("HEADWATER_ALIGN_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(wanted.unwrap_or(CASES)) }
}

fn plan(world: &World) -> Plan {
    Plan::new(&world.recipe, &world::inputs(world), Options::default())
        .expect("the worlds' recipes can be planned")
}

fn aligned(world: &World) -> Aligned {
    align(&plan(world), world::entity(world), &world.missing).expect("the worlds' samples are in order")
}

fn check(given: &[Cells], expected: &[Cells], world: &World) -> Result<(), TestCaseError> {
    let keys = |rows: &[Cells]| rows.iter().map(|row| row["row_key"].clone()).collect::<Vec<_>>();
    prop_assert_eq!(keys(given), keys(expected), "{}", told(world, "", &Cells::new()));
    for (row, (given, expected)) in given.iter().zip(expected).enumerate() {
        let names = |cells: &Cells| cells.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(given), names(expected));
        let all = expected;
        for (name, expected) in expected {
            let given = &given[name];
            prop_assert!(
                expected.agrees(given),
                "row {row} {name}: given {given:?}, expected {expected:?}\n{}",
                told(world, name, all),
            );
        }
    }
    Ok(())
}

/// What a person needs to see why.
fn told(world: &World, name: &str, row: &Cells) -> String {
    let place = usize::from(name.starts_with("c1"));
    let mut out = format!(
        "{row:?}\n{:?}\n{:?}\n{:?}\n",
        world.recipe.spine, world.recipe.mode, world.recipe.columns[place]
    );
    for line in &world.lines {
        out += &format!("{line:?}\n");
    }
    for (stream, samples) in
        world.spine.iter().map(|s| ("spine", s)).chain([("column", &world.columns[place])])
    {
        for s in samples {
            let Sample { line, event, half, ts, err, grade, seq, values } = s;
            out += &format!("{stream} {line} e{event}±{half} t{ts}±{err} {grade:?} #{seq} {values:?}\n");
        }
    }
    out + &format!("{:?}", world.missing)
}

fn equals_brute_force(seed: u64, family: Family) -> Result<(), TestCaseError> {
    let world = world::world(seed, Wish { jitter: seed.is_multiple_of(4), family, slow: false });
    let given = aligned(&world);
    let (expected, [dropped, passed_over, low_grade, wide]) = oracle::rows(&world);
    check(&rows(&given.batches), &expected, &world)?;
    let counts = &given.counts;
    prop_assert_eq!(counts.rows as usize, expected.len());
    prop_assert_eq!(counts.dropped.iter().sum::<u64>(), dropped);
    prop_assert_eq!([counts.passed_over, counts.low_grade, counts.wide], [passed_over, low_grade, wide]);
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn samples_equal_brute_force(seed: u64) {
        equals_brute_force(seed, Family::Samples)?;
    }

    #[test]
    fn interpolations_equal_brute_force(seed: u64) {
        equals_brute_force(seed, Family::Between)?;
    }

    #[test]
    fn windows_equal_brute_force(seed: u64) {
        equals_brute_force(seed, Family::Windows)?;
    }

    #[test]
    fn streaming_equals_batch(seed: u64) {
        let family = [Family::Samples, Family::Between, Family::Windows][(seed % 3) as usize];
        let world = world::world(seed, Wish { jitter: false, family, slow: true });
        let whole = aligned(&world);
        let pieces = in_pieces(&world, seed);
        check(&rows(&pieces.batches), &rows(&whole.batches), &world)?;
        prop_assert_eq!(pieces.counts, whole.counts);
    }
}

/// Feeds what lies below one point of UTC after another, each stream in pieces, in any order of streams.
fn in_pieces(world: &World, seed: u64) -> Aligned {
    let dice = &mut Dice(seed ^ 0x5eed);
    let plan = plan(world);
    let mut run = Run::new(&plan, "entity".to_owned());
    run.lines(world.lines.clone()).unwrap();
    let streams: Vec<&Vec<world::Sample>> = world.spine.iter().chain(&world.columns).collect();
    let all = || streams.iter().flat_map(|samples| samples.iter());
    let (low, high) = (all().map(|s| s.ts).min().unwrap_or(0), all().map(|s| s.ts).max().unwrap_or(0));
    let mut fed = vec![0; streams.len()];
    let mut batches = Vec::new();
    let end = high + plan.ahead_ns() * 5 / 4;
    let mut points: Vec<i64> = (0..8).map(|_| low + dice.below(end - low)).collect();
    points.sort_unstable();
    for upto in points {
        let first = dice.below(streams.len() as i64) as usize;
        for turn in 0..streams.len() {
            let stream = (first + turn) % streams.len();
            let end = streams[stream].iter().rposition(|s| s.ts < upto).map_or(0, |last| last + 1);
            while fed[stream] < end {
                let to = end.min(fed[stream] + 1 + dice.below(6) as usize);
                let piece = &streams[stream][fed[stream]..to];
                match stream.checked_sub(world.spine.len()) {
                    None => run.feed_spine(stream, world::spine_samples(world, piece)).unwrap(),
                    Some(column) => {
                        let fields = &world.fields[column];
                        run.feed(column, world::as_samples(piece, fields)).unwrap();
                    }
                }
                fed[stream] = to;
            }
        }
        batches.extend(run.complete(upto, &world.missing).unwrap());
    }
    for (stream, samples) in streams.iter().enumerate() {
        let rest = &samples[fed[stream]..];
        match stream.checked_sub(world.spine.len()) {
            None => run.feed_spine(stream, world::spine_samples(world, rest)).unwrap(),
            Some(column) => run.feed(column, world::as_samples(rest, &world.fields[column])).unwrap(),
        }
    }
    let rest = run.finish(&world.missing).unwrap();
    batches.extend(rest.batches);
    Aligned { batches, counts: rest.counts }
}
