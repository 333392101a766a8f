//! Rows of the spine: which samples, or points of a grid, give one.

use super::*;

pub(super) fn spine(world: &World, counts: &mut [u64; 4]) -> Vec<(At, Cells)> {
    let spine = &world.recipe.spine;
    let good = |sample: &Sample, counts: &mut [u64; 4]| {
        if sample.grade < spine.min_grade {
            counts[2] += 1;
        } else if spine.max_err_ns.is_some_and(|max| sample.err > max) {
            counts[3] += 1;
        } else {
            return true;
        }
        false
    };
    let named = |sample: &Sample, stream: &str| {
        let line = &world.lines[sample.line];
        let at = At {
            line: Some(sample.line),
            event: sample.event,
            half: sample.half,
            ts: sample.ts,
            err: sample.err,
        };
        let key = format!("{}/{stream}/{}", line.epoch, sample.seq);
        (at.clone(), identity(line.device.as_str(), &at, sample.grade, key))
    };
    match &spine.source {
        SpineSource::Stream { select, .. } => {
            let mut rows = Vec::new();
            for sample in world.spine[0].iter().filter(|sample| good(sample, counts)) {
                let mut row = named(sample, "spine");
                if !select.is_empty() {
                    row.1.insert("k".to_owned(), sample.values[0].clone());
                }
                rows.push(row);
            }
            rows
        }
        SpineSource::Event { when, select, .. } => {
            let Constant::Number(wanted) = when.value else { panic!("numbers only here") };
            let meets = |sample: &Sample| {
                let Cell::Int(x) = sample.values[0] else { return false };
                let order = (x as f64).partial_cmp(&wanted).unwrap();
                match when.op {
                    CompareOp::Eq => order == Ordering::Equal,
                    CompareOp::Ne => order != Ordering::Equal,
                    CompareOp::Lt => order == Ordering::Less,
                    CompareOp::Le => order != Ordering::Greater,
                    CompareOp::Gt => order == Ordering::Greater,
                    CompareOp::Ge => order != Ordering::Less,
                }
            };
            let mut rows = Vec::new();
            for (place, sample) in world.spine[0].iter().enumerate() {
                if !meets(sample) || (place > 0 && meets(&world.spine[0][place - 1])) {
                    counts[1] += 1;
                } else if good(sample, counts) {
                    let mut row = named(sample, "spine");
                    if !select.is_empty() {
                        row.1.insert("k".to_owned(), sample.values[0].clone());
                    }
                    rows.push(row);
                }
            }
            rows
        }
        SpineSource::Union { streams } => {
            let mut all: Vec<(usize, &Sample)> = Vec::new();
            for (place, samples) in world.spine.iter().enumerate() {
                all.extend(
                    samples.iter().filter(|sample| good(sample, counts)).map(|sample| (place, sample)),
                );
            }
            all.sort_by_key(|(place, s)| (s.ts, world.lines[s.line].clone(), s.event, *place, s.seq));
            let mut kept: Vec<(usize, &Sample)> = Vec::new();
            for (place, sample) in all {
                let one = kept.last().is_some_and(|(_, last)| {
                    last.ts == sample.ts && (last.line != sample.line || last.event == sample.event)
                });
                if one {
                    counts[1] += 1;
                } else {
                    kept.push((place, sample));
                }
            }
            kept.into_iter().map(|(place, sample)| named(sample, streams[place].as_str())).collect()
        }
        SpineSource::Grid { period_ns, phase_ns, epoch_ns } => {
            let seen = world.columns.iter().flatten().filter(|s| s.grade >= spine.min_grade).map(|s| s.ts);
            let (Some(first), Some(last)) = (seen.clone().min(), seen.max()) else { return Vec::new() };
            let origin = epoch_ns + phase_ns;
            let mut n = (first - origin).div_euclid(*period_ns) - 1;
            let mut rows = Vec::new();
            while origin + n * period_ns <= last {
                let ts = origin + n * period_ns;
                if ts >= first {
                    let at = At { line: None, event: 0, half: 0, ts, err: 0 };
                    rows.push((at.clone(), identity("entity", &at, Grade::Guaranteed, format!("grid/{n}"))));
                }
                n += 1;
            }
            rows
        }
    }
}

fn identity(device: &str, at: &At, grade: Grade, key: String) -> Cells {
    Cells::from([
        ("device".to_owned(), Cell::Text(device.to_owned())),
        ("ts".to_owned(), Cell::Int(at.ts.div_euclid(1000))),
        ("ts_ns".to_owned(), Cell::Int(at.ts)),
        ("ts_err_ns".to_owned(), Cell::Int(at.err)),
        ("grade".to_owned(), Cell::Text(grade.as_str().to_owned())),
        ("row_key".to_owned(), Cell::Text(key)),
    ])
}
