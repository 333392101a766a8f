//! Every codec and type: what is written reads back to the bit, and bytes of any kind stay in bounds.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "made-up values may wrap"
)]

use super::choose::{Choice, Coded, Picker};
use super::*;
use crate::batch::Effort;
use crate::batch::pack::Packer;
use crate::sample::Value;
use crate::schema::Physical;
use crate::wire::primitives::put_bytes;
use proptest::prelude::*;

const EFFORTS: [(Effort, u32); 4] = [
    (Effort::Spool, CODECS_SPOOL),
    (Effort::Wire, CODECS_BASELINE),
    (Effort::Wire, CODECS_SUPPORTED),
    (Effort::Metered, CODECS_SUPPORTED),
];

fn with_picker<T>(effort: Effort, codecs: u32, rows: usize, then: impl FnOnce(&mut Picker<'_>) -> T) -> T {
    let mut packer = Packer::new(1);
    then(&mut Picker { packer: &mut packer, effort, codecs, rows })
}

fn bytes_of(physical: u8, coded: &Coded) -> (Vec<u8>, Vec<u8>) {
    let mut small = vec![physical << 4 | coded.codec];
    small.extend_from_slice(&coded.small);
    (small, coded.dense.clone())
}

fn read(small: &[u8], dense: &[u8], rows: usize, earlier: Earlier<'_>) -> Result<Column, CodecError> {
    let mut source = Source { small: Reader::new(small), dense: Reader::new(dense), pco_states_left: 0 };
    let column = decode_column(&mut source, rows, earlier, &mut ByteBudget::new(Limits::V1))?;
    source.small.finish()?;
    source.dense.finish()?;
    Ok(column)
}

/// Writes the column in every way its choice holds, reads each back, and tells the codecs and sizes.
fn round_trip_after(column: &Column, earlier: Earlier<'_>) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    for (effort, codecs) in EFFORTS {
        let choice = with_picker(effort, codecs, column.len(), |picker| picker.column(column, earlier));
        assert!(choice.small.is_some() || choice.mixed.is_some());
        for coded in [&choice.small, &choice.mixed].into_iter().flatten() {
            assert!(codecs >> coded.codec & 1 == 1, "codec {} is not announced", coded.codec);
            let (small, dense) = bytes_of(type_code(&column.values), coded);
            let back = read(&small, &dense, column.len(), earlier).unwrap();
            assert!(back.same_bits(column), "{effort:?} {}: {back:?} != {column:?}", coded.codec);
            assert_eq!(back.valid, column.valid.clone().filter(|v| v.contains(&false)));
            found.push((coded.codec, small.len() + dense.len()));
        }
    }
    found
}

fn round_trip(column: &Column) -> Vec<(u8, usize)> {
    round_trip_after(column, Earlier::NONE)
}

fn doubles(values: Vec<f64>) -> Column {
    Column { values: Values::F64(values), valid: None }
}

fn singles(values: Vec<f32>) -> Column {
    Column { values: Values::F32(values), valid: None }
}

fn value(physical: Physical) -> BoxedStrategy<Value> {
    match physical {
        Physical::I64 => prop_oneof![any::<i64>(), -3_i64..3, -900_i64..900, Just(i64::MIN), Just(i64::MAX)]
            .prop_map(Value::I64)
            .boxed(),
        Physical::F64 => prop_oneof![
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::MIN_POSITIVE / 4.0)],
            4 => (-90_000_i64..90_000).prop_map(|x| x as f64 / 100.0),
            4 => (-3_000_i64..3_000).prop_map(|x| x as f64 / 418.0),
        ]
        .prop_map(Value::F64)
        .boxed(),
        Physical::F32 => prop_oneof![
            1 => any::<u32>().prop_map(f32::from_bits),
            1 => prop_oneof![Just(-0.0), Just(f32::NAN), Just(f32::NEG_INFINITY)],
            4 => (-9_000_i16..9_000).prop_map(|x| f32::from(x) / 100.0),
        ]
        .prop_map(Value::F32)
        .boxed(),
        Physical::Bytes => proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes).boxed(),
        Physical::Utf8 => "\\PC{0,6}".prop_map(Value::Utf8).boxed(),
    }
}

/// What a column is made of: any values, walks, scaled counts, few distinct ones; some with nulls.
fn column(physical: Physical) -> impl Strategy<Value = Column> {
    let row = prop_oneof![4 => value(physical), 1 => Just(Value::Null)];
    let rows =
        prop_oneof![Just(1), Just(2), Just(15), Just(16), Just(17), Just(256), Just(257), 1_usize..300];
    (rows, 0..4_u8, any::<bool>())
        .prop_flat_map(move |(n, shape, nulls)| {
            let row = if nulls { row.clone().boxed() } else { value(physical).boxed() };
            (proptest::collection::vec(row, n), Just(shape))
        })
        .prop_map(move |(mut rows, shape)| {
            let kept: Vec<Value> = rows.iter().take(if shape == 0 { 1 } else { 3 }).cloned().collect();
            if shape < 2 {
                rows.iter_mut().enumerate().for_each(|(at, v)| *v = kept[at * 7 % kept.len()].clone());
            }
            let mut column = Column::new(physical);
            assert!(rows.iter().all(|v| column.push(v)));
            column
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_column_reads_back_bit_for_bit(
        a in column(Physical::I64), b in column(Physical::F64), c in column(Physical::F32),
        d in column(Physical::Bytes), e in column(Physical::Utf8)
    ) {
        [a, b, c, d, e].iter().for_each(|column| { round_trip(column); });
    }

    #[test]
    fn walks_and_counts_read_back(
        steps in proptest::collection::vec(-40_i64..40, 1..400), start in -1_000_000_i64..1_000_000,
        by in prop_oneof![Just(1_i64), Just(10), Just(1_000), Just(418), Just(3755), Just(65_535)],
        stray in proptest::option::of(any::<u64>())
    ) {
        let mut sum = start;
        let walk: Vec<i64> = steps.iter().map(|step| { sum += step; sum }).collect();
        let mut floats: Vec<f64> = walk.iter().map(|x| *x as f64 / by as f64).collect();
        if let Some(bits) = stray {
            let at = floats.len() / 2;
            floats[at] = f64::from_bits(bits);
        }
        round_trip(&singles(floats.iter().map(|x| *x as f32).collect()));
        round_trip(&doubles(floats));
        round_trip(&Column::integers(walk));
    }

    #[test]
    fn frames_of_a_bus_read_back(
        frames in proptest::collection::vec((0_usize..5, proptest::collection::vec(any::<u8>(), 0..9)), 2..300),
        equal in any::<bool>()
    ) {
        let ids: Vec<i64> = frames.iter().map(|(id, _)| [7, -9, i64::MAX, 2_000_000_000, 0][*id]).collect();
        let values = frames.iter().map(|(id, data)| if equal { vec![data.len() as u8; id + 1] } else { data.clone() });
        let column = Column { values: Values::Bytes(values.collect()), valid: None };
        let fields = [Column::integers(ids)];
        let steady = vec![0; column.len()];
        round_trip_after(&column, Earlier { stamps: [&steady, &steady, &steady], fields: &fields });
    }

    #[test]
    fn any_bytes_are_a_column_or_an_error(
        mut small in proptest::collection::vec(any::<u8>(), 1..200), dense in proptest::collection::vec(any::<u8>(), 0..200),
        tag in prop_oneof![0_u8..0x50, any::<u8>()], rows in 1_usize..2000
    ) {
        small[0] = tag;
        let keys: Vec<i64> = (0..rows as i64).map(|row| row % 7).collect();
        let mut source = Source { small: Reader::new(&small), dense: Reader::new(&dense), pco_states_left: 0 };
        let earlier = Earlier { stamps: [&keys; 3], fields: &[] };
        if let Ok(column) = decode_column(&mut source, rows, earlier, &mut ByteBudget::new(Limits::V1)) {
            prop_assert_eq!(column.len(), rows);
        }
    }

    #[test]
    fn damaged_columns_are_a_column_or_an_error(
        column in prop_oneof![column(Physical::I64), column(Physical::F64), column(Physical::F32), column(Physical::Bytes)],
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), rows in 1_usize..600
    ) {
        let choice = with_picker(Effort::Metered, CODECS_SUPPORTED, column.len(), |picker| picker.column(&column, Earlier::NONE));
        for coded in [&choice.small, &choice.mixed].into_iter().flatten() {
            let (mut small, mut dense) = bytes_of(type_code(&column.values), coded);
            for (at, byte) in &flips {
                let place = at.index(small.len() + dense.len());
                match place.checked_sub(small.len()) {
                    None => small[place] ^= byte,
                    Some(place) => dense[place] ^= byte,
                }
            }
            for rows in [rows, column.len()] {
                if let Ok(back) = read(&small, &dense, rows, Earlier::NONE) {
                    prop_assert_eq!(back.len(), rows);
                }
            }
        }
    }
}

#[test]
fn steady_counters_cost_a_byte_and_constants_nothing_per_row() {
    let steady = Column::integers((0..1000).map(|i| 1_700_000_000 + i * 4_000).collect());
    assert!(
        round_trip(&steady).first().is_some_and(|(codec, bytes)| (*codec, *bytes < 1_015) == (DELTA2, true))
    );
    assert!(round_trip(&Column::integers(vec![7; 1000])).iter().all(|(_, bytes)| *bytes == 2));
    round_trip(&Column::integers(vec![i64::MIN, i64::MAX, i64::MIN]));
}

#[test]
fn each_codec_is_picked_where_it_belongs() {
    let uses = |column: &Column, codec: u8| {
        let found = round_trip(column);
        assert!(found.iter().any(|(used, _)| *used == codec), "codec {codec} not among {found:?}");
    };
    let noise = |at: i64| (at * 7_919 + at * at % 613) % 101 - 50;
    uses(&doubles((0..500).map(|at| noise(at) as f64 / 10.0).collect()), DECIMAL);
    uses(&doubles((0..500).map(|at| (9_000_000 + at * 301) as f64 / 1e6).collect()), DECIMAL_DELTA2);
    uses(&doubles((0..500).map(|at| (4_180 + noise(at)) as f64 / 418.0).collect()), RATIO);
    let mut holes: Vec<f64> = (0..500).map(|at| (2_000 + noise(at)) as f64 / 10.0).collect();
    (0..500).step_by(9).for_each(|at| holes[at] = f64::NAN);
    holes[3] = -0.0;
    uses(&doubles(holes), PATCHED);
    uses(
        &Column::integers(
            (0..500).map(|at| [5, 1 << 40, -(1 << 50)][(noise(at).rem_euclid(3)) as usize]).collect(),
        ),
        DICT,
    );
    uses(&Column::integers((0..200).map(noise).collect()), RESIDUAL);
    uses(&Column::integers((0..4_000).map(|at| noise(at) * 1_000_003 + noise(at * 5)).collect()), PCO);
    uses(
        &singles((0..40).map(|at| f32::from_bits(0x3f80_0000 + (noise(at) + 60) as u32 * 977)).collect()),
        PLANES,
    );
    let lines = (0..90).map(|at| format!("$GPGGA,{},{}", at, "x".repeat(at % 5))).collect();
    uses(&Column { values: Values::Utf8(lines), valid: None }, TERMINATED);
}

#[test]
fn grouped_frames_are_smaller_than_frames_as_they_come() {
    let ids: Vec<i64> = (0..1_000).map(|at| [3, 900, 77, 2_048][(at * 7 + at / 5) % 4]).collect();
    let frames = ids.iter().zip(0_u8..=255).map(|(id, at)| vec![*id as u8, at, 9, at / 3, 0xff - *id as u8]);
    let frames: Vec<Vec<u8>> =
        frames.chain((256..1_000).map(|at| vec![ids[at] as u8, at as u8, 9, 1, 2])).collect();
    let column = Column { values: Values::Bytes(frames), valid: None };
    let fields = [Column::integers(ids)];
    let steady = vec![0; column.len()];
    let earlier = Earlier { stamps: [&steady, &steady, &steady], fields: &fields };
    assert!(round_trip_after(&column, earlier).iter().any(|(codec, _)| *codec == KEYED));
}

/// For few rows each way is tried, so none of them may beat the chosen one.
#[test]
fn choice_is_never_worse() {
    let noise = |at: i64| (at * 7_919 + at * at % 613) % 101 - 50;
    for n in [1, 2, 15, 16, 17, 60, 256] {
        for scale in [1, 40, 1_000_003] {
            let values: Vec<i64> = (0..n).map(|at| noise(at) * scale + at * 3).collect();
            let cost = |codecs: u32| {
                with_picker(Effort::Wire, codecs, values.len(), |picker| {
                    let Choice { small, mixed } = picker.integers(&values);
                    small.into_iter().chain(mixed).map(|coded| coded.cost).min().unwrap()
                })
            };
            let best = cost(CODECS_SUPPORTED);
            for codec in [PLAIN, DELTA, DELTA2, DICT, RESIDUAL, PCO] {
                // A codec that plain length decides on needs one beside it that is not of the baseline.
                let alone = cost(1 << codec | 1 << PLAIN | 1 << PATCHED);
                assert!(best <= alone, "{n} rows, scale {scale}: {best} B, {alone} B with codec {codec}");
            }
        }
    }
}

#[test]
fn divisors_are_found_and_proven() {
    for by in [1_i64, 3, 7, 418, 3_755, 4_096, 65_521] {
        let values: Vec<f64> = (0..300).map(|at| ((at * 7_907 % 4_001) - 2_000) as f64 / by as f64).collect();
        let lowered = ratio::find(&values, 0).unwrap();
        assert_eq!(i64::from(lowered.divisor), by);
        assert!(lowered.exceptions.is_empty());
    }
    let irrational: Vec<f64> = (1..300).map(|at| f64::from(at).sqrt()).collect();
    assert!(ratio::find(&irrational, 0).is_none());
}

#[test]
fn a_constant_of_long_values_is_bounded() {
    let mut small = vec![T_BYTES << 4 | CONST];
    put_bytes(&mut small, &[0; 60_000]);
    let result = read(&small, &[], 1 << 20, Earlier::NONE);
    assert!(matches!(result, Err(CodecError::DecodedBytes { .. })));
}

#[test]
fn claims_beyond_the_payload_are_refused_before_allocation() {
    let rows = 1 << 19;
    for tag in
        [1, 2, 3, 7, T_F64 << 4 | RAW, T_F64 << 4 | PLANES, T_BYTES << 4 | LENGTHS, T_UTF8 << 4 | TERMINATED]
    {
        let result = read(&[tag, 0, 0], &[], rows, Earlier::NONE);
        assert!(matches!(result, Err(CodecError::Rows { .. })), "tag {tag:#x}: {result:?}");
    }
    assert!(matches!(read(&[RESIDUAL], &[0, 0, 0], rows, Earlier::NONE), Err(CodecError::Rows { .. })));
    assert!(read(&[T_BYTES << 4 | EQUAL_LENGTHS, 0], &[], rows, Earlier::NONE).is_err());
    // Keyed: one group of half a million empty values is a constant, and not written this way.
    let keys = vec![0; rows];
    let earlier = Earlier { stamps: [&keys; 3], fields: &[] };
    assert!(read(&[T_BYTES << 4 | KEYED, 0, 0, 200], &[], rows, earlier).is_err());
}

#[test]
fn pco_forms_that_allocate_unread_are_refused() {
    // Version 4.1, a dictionary of 2^25 − 1 values; then a look-back window of 2^24.
    let dictionary = [4, 1, 0xf4, 0xff, 0xff, 0xff, 0, 0];
    let result = read(&[PCO, 8], &dictionary, 300, Earlier::NONE);
    assert!(matches!(result, Err(CodecError::Pco { .. })));
    let window = [4, 1, 0x20, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let result = read(&[PCO, 16], &window, 300, Earlier::NONE);
    assert!(matches!(result, Err(CodecError::Pco { .. })));
    let result = read(&[PCO, 0xff, 0xff, 3], &[0; 60_000], 16, Earlier::NONE);
    assert!(result.is_err(), "longer than sixteen values can be");
}

#[test]
fn one_long_value_beside_many_short_ones_is_read_in_their_sum() {
    // 60 000 rows and one value of 60 000 bytes: their product were 3.6e9 steps.
    let (rows, long) = (60_000, 60_000_u32);
    let keys = vec![0_i64; rows];
    let earlier = Earlier { stamps: [&keys, &[], &[]], fields: &[] };
    let mut small = vec![T_BYTES << 4 | KEYED, 0, 0, 0];
    small.extend(std::iter::repeat_n(0, rows - 1));
    crate::wire::primitives::put_uv(&mut small, long.into());
    small.extend((0..long).map(|at| at as u8));
    let column = read(&small, &[], rows, earlier).unwrap();
    let Values::Bytes(values) = column.values else { panic!("bytes") };
    assert_eq!(values[rows - 1], (0..long).map(|at| at as u8).collect::<Vec<_>>());
    assert!(values[..rows - 1].iter().all(Vec::is_empty));
}

#[test]
fn half_a_million_short_texts_are_above_the_limit_of_decoded_bytes() {
    // One letter, claimed half a million times: far from 16 MiB of letters, but 30 ms of allocating.
    let small = [T_UTF8 << 4 | CONST, 1, b'x'];
    let refused = read(&small, &[], 1 << 19, Earlier::NONE);
    assert!(matches!(refused, Err(CodecError::DecodedBytes { .. })));
    assert!(read(&small, &[], (16 << 20) / 49, Earlier::NONE).is_ok());
}
