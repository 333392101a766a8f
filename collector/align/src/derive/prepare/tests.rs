//! Steps against pandas, scipy and numpy, by hand, and a part against the whole.

use super::*;
use crate::derive::reference::{assert_agree, floats, section};
use crate::sample::Stamps;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Float64Array, Int32Array, StringArray};
use headwater_core::id::FieldName;
use headwater_core::time::Grade;
use proptest::prelude::*;

const MS: i64 = 1_000_000;

/// Samples of one line: times in ns and a field `x`.
fn samples(times: &[i64], values: &[Option<f64>]) -> Samples {
    on_lines(&times.iter().map(|time| (0, *time)).collect::<Vec<_>>(), values)
}

/// Samples of some lines; UTC is boot time and a bit.
fn on_lines(stamps: &[(u32, i64)], values: &[Option<f64>]) -> Samples {
    let n = stamps.len();
    let stamps = Stamps {
        line: stamps.iter().map(|(line, _)| *line).collect(),
        event_ns: stamps.iter().map(|(_, time)| *time).collect(),
        half_ns: vec![5; n],
        ts_ns: stamps.iter().map(|(_, time)| *time + 7).collect(),
        err_ns: vec![9; n],
        grade: vec![Grade::Guaranteed; n],
        seq: (100..).take(n).collect(),
    };
    let x: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    Samples { stamps, values: RecordBatch::try_from_iter_with_nullable([("x", x, true)]).unwrap() }
}

fn step(kind: StepKind, max_gap_ns: i64) -> Step {
    Step { kind, fields: Vec::new(), max_gap_ns }
}

fn x_of(prepared: &Prepared) -> Vec<Option<f64>> {
    let array = prepared.samples.values.column_by_name("x").unwrap();
    array.as_primitive::<Float64Type>().iter().collect()
}

fn prepared(steps: &[Step], samples: Samples) -> Prepared {
    prepare(steps, samples).unwrap()
}

fn some(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().map(|x| Some(*x)).collect()
}

/// The reference's series `name`.
fn series(name: &str) -> (Vec<i64>, Vec<Option<f64>>) {
    let smoothing = section("smoothing");
    let of = &smoothing[name];
    let times = of["times"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap()).collect();
    (times, floats(&of["values"]))
}

#[test]
fn median_is_pandas() {
    let (times, values) = series("even");
    for (samples_n, wanted) in section("smoothing")["median"].as_object().unwrap() {
        let steps = [step(StepKind::Median { samples: samples_n.parse().unwrap() }, 10 * MS)];
        let found = x_of(&prepared(&steps, samples(&times, &values)));
        assert_agree(&found, &floats(wanted), 1e-15, samples_n);
    }
}

#[test]
fn savitzky_golay_is_scipys_on_even_times() {
    let (times, values) = series("even");
    for (name, wanted) in section("smoothing")["savitzky_golay"].as_object().unwrap() {
        let (n, order) = name.split_once(',').unwrap();
        let kind = StepKind::SavitzkyGolay { samples: n.parse().unwrap(), order: order.parse().unwrap() };
        let found = x_of(&prepared(&[step(kind, 10 * MS)], samples(&times, &values)));
        assert_agree(&found, &floats(wanted), 1e-9, name);
    }
}

#[test]
fn savitzky_golay_is_the_fit_itself_on_uneven_times() {
    let (times, values) = series("uneven");
    for (name, wanted) in section("smoothing")["local_polynomial"].as_object().unwrap() {
        let (n, order) = name.split_once(',').unwrap();
        let kind = StepKind::SavitzkyGolay { samples: n.parse().unwrap(), order: order.parse().unwrap() };
        let found = x_of(&prepared(&[step(kind, 100 * MS)], samples(&times, &values)));
        assert_agree(&found, &floats(wanted), 1e-9, name);
    }
}

#[test]
fn exponential_is_pandas_but_for_the_far_past() {
    let (times, values) = series("uneven");
    for (tau_ms, wanted) in section("smoothing")["exponential"].as_object().unwrap() {
        let time_constant_ns = tau_ms.parse::<i64>().unwrap() * MS;
        let found = x_of(&prepared(
            &[step(StepKind::Exponential { time_constant_ns }, 100 * MS)],
            samples(&times, &values),
        ));
        // Half lives are whole ns there; weights beyond 16 time constants are none here.
        assert_agree(&found, &floats(wanted), 3e-6, tau_ms);
    }
}

#[test]
fn clip_mad_is_hampels_rule() {
    let (times, values) = series("even");
    for (name, wanted) in section("smoothing")["mad"].as_object().unwrap() {
        let (n, limit) = name.split_once(',').unwrap();
        let kind = |then| StepKind::ClipMad {
            samples: n.parse().unwrap(),
            limit: limit.parse().unwrap(),
            min_scale: 0.0,
            then,
        };
        let wanted: Vec<bool> = wanted.as_array().unwrap().iter().map(|hit| hit.as_bool().unwrap()).collect();
        assert!(wanted.contains(&true));
        let nulled = x_of(&prepared(&[step(kind(Outlier::Null), 10 * MS)], samples(&times, &values)));
        assert_eq!(nulled.iter().map(Option::is_none).collect::<Vec<_>>(), wanted);
        let clamped = x_of(&prepared(&[step(kind(Outlier::Clamp), 10 * MS)], samples(&times, &values)));
        for ((clamped, raw), hit) in clamped.iter().zip(&values).zip(&wanted) {
            assert_eq!(clamped != raw, *hit);
        }
        let dropped = prepared(&[step(kind(Outlier::Drop), 10 * MS)], samples(&times, &values));
        let left: Vec<u64> = (100..).zip(&wanted).filter(|(_, hit)| !**hit).map(|(seq, _)| seq).collect();
        assert_eq!(dropped.samples.stamps.seq, left);
        assert_eq!(dropped.spans.len(), left.len());
    }
}

#[test]
fn a_sensors_last_digit_is_no_outlier() {
    let times: Vec<i64> = (0..7).map(|n| n * MS).collect();
    let values = some(&[1.0, 1.0, 1.0, 1.1, 1.0, 1.0, 1.0]);
    let clip = |min_scale| {
        let kind = StepKind::ClipMad { samples: 5, limit: 3.0, min_scale, then: Outlier::Null };
        x_of(&prepared(&[step(kind, MS)], samples(&times, &values)))[3]
    };
    assert_eq!((clip(0.0), clip(0.05)), (None, Some(1.1)));
}

#[test]
fn clip_range_holds_its_bounds_and_takes_what_is_no_number() {
    let times: Vec<i64> = (0..7).collect();
    let values =
        vec![Some(-3.0), Some(2.0), None, Some(2.5), Some(f64::NAN), Some(f64::INFINITY), Some(-2.0)];
    let clip = |min, max, then| {
        x_of(&prepared(&[step(StepKind::ClipRange { min, max, then }, 0)], samples(&times, &values)))
    };
    assert_eq!(
        clip(Some(-2.0), Some(2.0), Outlier::Null),
        [None, Some(2.0), None, None, None, None, Some(-2.0)]
    );
    assert_eq!(
        clip(Some(-2.0), Some(2.0), Outlier::Clamp),
        [Some(-2.0), Some(2.0), None, Some(2.0), None, Some(2.0), Some(-2.0)]
    );
    assert_eq!(clip(None, Some(2.0), Outlier::Drop), [Some(-3.0), Some(2.0), None, Some(-2.0)]);
}

#[test]
fn clip_rate_takes_a_spike_and_leaves_a_step() {
    let times: Vec<i64> = (0..9).map(|n| n * 1000 * MS).collect();
    let values = some(&[0.0, 1.0, 50.0, 2.0, 3.0, 90.0, 91.0, 92.0, 93.0]);
    let steps = [step(StepKind::ClipRate { per_second: 5.0, then: Outlier::Null }, 1000 * MS)];
    let wanted =
        [Some(0.0), Some(1.0), None, Some(2.0), Some(3.0), Some(90.0), Some(91.0), Some(92.0), Some(93.0)];
    assert_eq!(x_of(&prepared(&steps, samples(&times, &values))), wanted);
}

#[test]
fn no_step_looks_across_a_gap_a_reboot_or_a_null() {
    let near = [(0, 0), (0, 1), (0, 2), (0, 50), (0, 51), (1, 52), (1, 53), (1, 54)];
    let values = some(&[1.0, 2.0, 3.0, 100.0, 101.0, 7.0, 8.0, 9.0]);
    let medians = prepared(&[step(StepKind::Median { samples: 3 }, 1)], on_lines(&near, &values));
    let wanted = some(&[1.5, 2.0, 2.5, 100.5, 100.5, 7.5, 8.0, 8.5]);
    assert_eq!(x_of(&medians), wanted);
    // A null is no sample: what lies around it is two apart.
    let mut holed = values.clone();
    holed[1] = None;
    let apart = prepared(&[step(StepKind::Median { samples: 3 }, 1)], on_lines(&near, &holed));
    assert_eq!(x_of(&apart)[..3], [Some(1.0), None, Some(3.0)]);
    let bridged = prepared(&[step(StepKind::Median { samples: 3 }, 2)], on_lines(&near, &holed));
    assert_eq!(x_of(&bridged)[..3], [Some(2.0), None, Some(2.0)]);
    // Too short a run for a polynomial has none.
    let fit = step(StepKind::SavitzkyGolay { samples: 3, order: 1 }, 1);
    assert_eq!(x_of(&prepared(&[fit], on_lines(&near, &values)))[3..5], [None, None]);
}

#[test]
fn lines_that_came_mixed_are_looked_at_apart() {
    let mixed = [(0, 0), (1, 0), (0, 10), (1, 11), (0, 20), (1, 22)];
    let values = some(&[1.0, 100.0, 2.0, 200.0, 3.0, 300.0]);
    let steps = [step(StepKind::Median { samples: 3 }, 11)];
    assert_eq!(
        x_of(&prepared(&steps, on_lines(&mixed, &values))),
        some(&[1.5, 150.0, 2.0, 200.0, 2.5, 250.0])
    );
    let steps = [step(StepKind::Resample { period_ns: 5, by: ResampleBy::Linear }, 11)];
    let even = prepared(&steps, on_lines(&mixed, &values));
    assert_eq!(even.samples.stamps.line, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(even.samples.stamps.event_ns, [0, 0, 5, 5, 10, 10, 15, 15, 20, 20]);
    assert_eq!(x_of(&even)[2..4], [Some(1.5), Some(100.0 + 5.0 / 11.0 * 100.0)]);
}

#[test]
fn resampled_times_are_multiples_and_values_lie_between() {
    let times = [1, 4, 10, 21, 40, 43];
    let values = vec![Some(0.0), Some(3.0), Some(9.0), None, Some(39.0), Some(42.0)];
    let by = |by, max_gap_ns| {
        prepared(&[step(StepKind::Resample { period_ns: 5, by }, max_gap_ns)], samples(&times, &values))
    };
    let linear = by(ResampleBy::Linear, 20);
    assert_eq!(linear.samples.stamps.event_ns, [5, 10, 15, 20, 25, 30, 35, 40]);
    // Null where the neighbours that have a value are 30 apart.
    assert_eq!(x_of(&linear), [Some(4.0), Some(9.0), None, None, None, None, None, Some(39.0)]);
    let seqs: Vec<(u64, u64)> = linear.spans.iter().map(|span| (span.seq_lo, span.seq_hi)).collect();
    assert_eq!(seqs[..4], [(101, 102), (102, 102), (102, 103), (102, 103)]);
    assert_eq!(linear.samples.stamps.ts_ns, [12, 17, 22, 27, 32, 37, 42, 47]);
    let near = by(ResampleBy::Linear, 11);
    assert_eq!(near.samples.stamps.event_ns, [5, 10, 15, 20, 40]);
    let previous = by(ResampleBy::Previous, 8);
    assert_eq!(previous.samples.stamps.event_ns, [5, 10, 15, 25, 40, 45, 50]);
    assert_eq!(x_of(&previous), [Some(3.0), Some(9.0), Some(9.0), None, Some(39.0), Some(42.0), Some(42.0)]);
    let mean = by(ResampleBy::Mean, 5);
    assert_eq!(mean.samples.stamps.event_ns, [0, 5, 10, 20, 40, 45]);
    assert_eq!(x_of(&mean), [Some(0.0), Some(3.0), Some(9.0), None, Some(39.0), Some(42.0)]);
}

#[test]
fn a_resampled_sample_is_as_sure_as_the_worse_of_its_neighbours() {
    let mut two = samples(&[0, 10], &some(&[1.0, 2.0]));
    two.stamps.err_ns = vec![9, 90];
    two.stamps.half_ns = vec![5, 4];
    two.stamps.grade = vec![Grade::Guaranteed, Grade::Estimated];
    let even = prepared(&[step(StepKind::Resample { period_ns: 4, by: ResampleBy::Linear }, 10)], two);
    assert_eq!(even.samples.stamps.event_ns, [0, 4, 8]);
    assert_eq!(even.samples.stamps.err_ns, [9, 90, 90]);
    assert_eq!(even.samples.stamps.half_ns, [5, 5, 5]);
    assert_eq!(even.samples.stamps.grade, [Grade::Guaranteed, Grade::Estimated, Grade::Estimated]);
}

#[test]
fn other_fields_stay_and_text_is_resampled() {
    let mut with_text = samples(&[0, 10], &some(&[1.0, 3.0]));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("x", Arc::clone(with_text.values.column(0)), true),
        ("n", Arc::new(Int32Array::from(vec![1, 2])), true),
        ("t", Arc::new(StringArray::from(vec!["a", "b"])), true),
    ];
    with_text.values = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let only: Vec<FieldName> = vec!["x".parse().unwrap()];
    let median = Step { fields: only, ..step(StepKind::Median { samples: 1 }, 10) };
    let kept = prepared(std::slice::from_ref(&median), with_text.clone());
    assert_eq!(kept.samples.values.column(1).as_primitive::<Int32Type>().values(), &[1, 2]);
    let steps = [median, step(StepKind::Resample { period_ns: 5, by: ResampleBy::Linear }, 10)];
    let even = prepared(&steps, with_text.clone());
    assert_eq!(even.samples.values.column(1).as_primitive::<Float64Type>().values(), &[1.0, 1.5, 2.0]);
    assert_eq!(
        even.samples.values.column(2).as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("a"), Some("a"), Some("b")]
    );
    let schema = prepared_schema(&steps, with_text.values.schema_ref()).unwrap();
    assert_eq!(&schema, even.samples.values.schema_ref());
}

#[test]
fn steps_that_do_not_fit_say_so() {
    let text = |steps: &[Step]| prepare(steps, samples(&[0], &some(&[1.0]))).unwrap_err().to_string();
    let missing = Step { fields: vec!["y".parse().unwrap()], ..step(StepKind::Median { samples: 1 }, 1) };
    let first = step(StepKind::Median { samples: 1 }, 1);
    assert_eq!(text(&[first, missing]), "step 1 names field y, which the samples do not have");
    let unsorted = samples(&[5, 4], &some(&[1.0, 2.0]));
    assert_eq!(
        prepare(&[], unsorted).unwrap_err().to_string(),
        "sample 1 is earlier than the one before it on its boot line"
    );
    let dense = samples(&[0, i64::MAX / 4], &some(&[1.0, 2.0]));
    let steps = [step(StepKind::Resample { period_ns: 1, by: ResampleBy::Linear }, i64::MAX)];
    assert!(prepare(&steps, dense).unwrap_err().to_string().contains("choose a longer period"));
}

/// Every kind of step, with windows small enough for short series.
fn any_step() -> impl Strategy<Value = Step> {
    let then = prop::sample::select(vec![Outlier::Null, Outlier::Clamp, Outlier::Drop]);
    let kind = prop_oneof![
        (-50f64..0.0, 0f64..50.0, then.clone()).prop_map(|(min, max, then)| StepKind::ClipRange {
            min: Some(min),
            max: Some(max),
            then
        }),
        (0u32..4, 0.5f64..4.0, then).prop_map(|(half, limit, then)| StepKind::ClipMad {
            samples: 2 * half + 1,
            limit,
            min_scale: 0.0,
            then
        }),
        (1e6f64..1e9).prop_map(|per_second| StepKind::ClipRate { per_second, then: Outlier::Drop }),
        (0u32..4).prop_map(|half| StepKind::Median { samples: 2 * half + 1 }),
        (1i64..20).prop_map(|time_constant_ns| StepKind::Exponential { time_constant_ns }),
        (1u32..4, 0u32..3).prop_map(|(half, order)| StepKind::SavitzkyGolay { samples: 2 * half + 1, order }),
        (1i64..30, prop::sample::select(vec![ResampleBy::Linear, ResampleBy::Previous, ResampleBy::Mean]))
            .prop_map(|(period_ns, by)| StepKind::Resample { period_ns, by }),
    ];
    (kind, 1i64..30).prop_map(|(kind, max_gap_ns)| step(kind, max_gap_ns))
}

fn any_samples() -> impl Strategy<Value = Samples> {
    let value = prop_oneof![
        8 => (-60f64..60.0).prop_map(Some),
        1 => Just(None),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]).prop_map(Some),
    ];
    prop::collection::vec((0u32..3, 0i64..25, value), 0..80).prop_map(|rows| {
        let mut now = [-300i64; 3];
        let stamped: Vec<(u32, i64)> = rows
            .iter()
            .map(|(line, apart, _)| {
                let time = &mut now[*line as usize];
                *time += apart;
                (*line, *time)
            })
            .collect();
        on_lines(&stamped, &rows.iter().map(|(.., value)| *value).collect::<Vec<_>>())
    })
}

/// One prepared sample as something that can be compared.
fn row_of(prepared: &Prepared, row: usize) -> (u32, i64, i64, u64, Span, Option<u64>) {
    let stamps = &prepared.samples.stamps;
    let x = x_of(prepared)[row].map(f64::to_bits);
    (stamps.line[row], stamps.event_ns[row], stamps.ts_ns[row], stamps.seq[row], prepared.spans[row], x)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_part_with_its_reach_is_the_part_of_the_whole(
        steps in prop::collection::vec(any_step(), 1..4), all in any_samples(), line in 0u32..3, from in -300i64..600, length in 1i64..200,
    ) {
        let whole = prepared(&steps, all.clone());
        let reach = reach(&steps);
        let upto = from + length;
        let inside = |rows: &Prepared| -> Vec<_> {
            let stamps = &rows.samples.stamps;
            let is_in = |row: &usize| stamps.line[*row] == line && (from..upto).contains(&stamps.event_ns[*row]);
            (0..stamps.len()).filter(is_in).map(|row| row_of(rows, row)).collect()
        };
        let keep: Vec<usize> = (0..all.stamps.len()).filter(|row| {
            let event = all.stamps.event_ns[*row];
            event >= from - reach.before_ns && event <= upto + reach.after_ns
        }).collect();
        let rows: arrow_array::UInt64Array = keep.iter().map(|row| Some(*row as u64)).collect();
        let part = Samples {
            stamps: resample::taken(&all.stamps, &keep),
            values: arrow_select::take::take_record_batch(&all.values, &rows).unwrap(),
        };
        prop_assert_eq!(inside(&prepared(&steps, part)), inside(&whole));
    }

    #[test]
    fn what_is_prepared_is_sorted_canonical_and_of_the_declared_schema(
        steps in prop::collection::vec(any_step(), 0..4), all in any_samples()
    ) {
        let schema = prepared_schema(&steps, all.values.schema_ref()).unwrap();
        let given: std::collections::BTreeSet<u64> = all.stamps.seq.iter().copied().collect();
        let out = prepared(&steps, all);
        prop_assert_eq!(out.samples.values.schema_ref(), &schema);
        prop_assert!(run::check_order(&out.samples.stamps).is_ok());
        prop_assert_eq!(out.spans.len(), out.samples.stamps.len());
        for span in &out.spans {
            prop_assert!(span.seq_lo <= span.seq_hi && given.contains(&span.seq_lo) && given.contains(&span.seq_hi));
        }
        if steps.iter().any(|step| matches!(step.kind, StepKind::Median { .. })) {
            let is_finite = |x: &Option<f64>| x.is_none_or(|x| x.is_finite());
            prop_assert!(x_of(&out).iter().all(is_finite));
        }
    }

    #[test]
    fn a_polynomial_comes_back_as_it_is(
        gaps in prop::collection::vec(1i64..9, 12..40), a in -9f64..9.0, b in -9f64..9.0, c in -9f64..9.0, half in 2u32..5
    ) {
        let times: Vec<i64> = gaps.iter().scan(0, |now, gap| { *now += gap * MS; Some(*now) }).collect();
        let of = |t: &i64| { let t = *t as f64 / 1e8; Some(a + b * t + c * t * t) };
        let values: Vec<Option<f64>> = times.iter().map(of).collect();
        let steps = [step(StepKind::SavitzkyGolay { samples: 2 * half + 1, order: 2 }, 10 * MS)];
        assert_agree(&x_of(&prepared(&steps, samples(&times, &values))), &values, 1e-10, "fit");
    }
}
