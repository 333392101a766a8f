//! Rows of `hw/clock` as rows of `ops.clock`. [`crate::resolve::ClockRow`] reads them back, for a restart and for
//! `headwater clock`, and a property holds the two together.

use super::cells::Cell;
use headwater_core::sample::Value;
use headwater_core::schema::{Logical, Schema};
use headwater_core::time::Grade;

/// Field of kind `clock` and its column. Three fields are written otherwise: `grade` by its name, `boot_id` in hex,
/// `domain` as `device:N`.
const NAMES: [(&str, &str); 23] = [
    ("row_kind", "row_kind"),
    ("b1", "b1_ns"),
    ("real", "real_ns"),
    ("b2", "b2_ns"),
    ("raw", "raw_ns"),
    ("half", "half_ns"),
    ("source", "source"),
    ("grade", "grade"),
    ("t1", "t1_ns"),
    ("t2", "t2_ns"),
    ("t3", "t3_ns"),
    ("t4", "t4_ns"),
    ("e_c", "e_c_ns"),
    ("source_id", "source_id"),
    ("boot_id", "boot_id"),
    ("detail", "detail"),
    ("event", "event"),
    ("step", "step_ns"),
    ("freq_ppb", "freq_ppb"),
    ("domain", "domain"),
    ("w_ping", "w_ping_ns"),
    ("w_pong", "w_pong_ns"),
    ("rho_ppb", "rho_ppb"),
];

/// The columns of a row that a gateway sent under `schema`; `None` if it has no known kind, source or grade. Fields that
/// this version does not know are left out, so a later agent's rows still go in.
#[must_use]
pub fn clock_cells(schema: &Schema, values: &[Value]) -> Option<Vec<(&'static str, Cell)>> {
    let mut cells = Vec::with_capacity(NAMES.len() + 3);
    for (field, column) in NAMES {
        let Some(place) = schema.fields.iter().position(|known| known.name.as_str() == field) else {
            continue;
        };
        let (value, logical) = (values.get(place)?, &schema.fields.get(place)?.logical);
        let cell = match (field, value, logical) {
            (_, Value::Null, _) => Cell::Null,
            ("grade", Value::I64(n), _) => Grade::from_code(u8::try_from(*n).ok()?)?.as_str().into(),
            ("domain", Value::I64(0), _) => "boot".into(),
            ("domain", Value::I64(n), _) => format!("device:{n}").into(),
            (_, Value::I64(n), Logical::Enum(names)) => {
                names.get(usize::try_from(*n).ok()?).map(String::as_str).into()
            }
            (_, Value::I64(n), _) => (*n).into(),
            (_, Value::Utf8(text), _) => text.as_str().into(),
            (_, Value::Bytes(bytes), _) => hex(bytes).into(),
            _ => return None,
        };
        cells.push((column, cell));
    }
    let known = |name: &str| cells.iter().any(|(column, cell)| *column == name && *cell != Cell::Null);
    if !["row_kind", "source", "grade"].into_iter().all(known) {
        return None;
    }
    derived(&mut cells);
    Some(cells)
}

/// What the design's columns say of an event and an edge in other words: the wall clock before and after a step, and the
/// latency an edge's declared width is.
fn derived(cells: &mut Vec<(&'static str, Cell)>) {
    let long = |name: &str| {
        cells.iter().find(|(column, _)| *column == name).and_then(|(_, cell)| match cell {
            Cell::Long(n) => Some(*n),
            _ => None,
        })
    };
    let is =
        |kind: &str| cells.iter().any(|(column, cell)| *column == "row_kind" && *cell == Cell::from(kind));
    let more = if is("edge") {
        vec![("latency_ns", long("half_ns").into())]
    } else if is("event") {
        let after = long("real_ns");
        let before = after.zip(long("step_ns")).map(|(after, step)| after.saturating_sub(step));
        vec![("before_ns", before.into()), ("after_ns", before.and(after).into())]
    } else {
        Vec::new()
    };
    cells.extend(more);
}

/// Lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::cells::TableRows;
    use crate::commit::read::ScannedRows;
    use crate::commit::tables::Ops;
    use crate::resolve::{ClockRow, statements_of};
    use headwater_core::schema::builtin;
    use proptest::prelude::*;

    #[test]
    fn every_field_has_a_column_and_every_column_is_declared() {
        let fields: Vec<String> =
            builtin::clock().fields.iter().map(|field| field.name.to_string()).collect();
        assert_eq!(fields.len(), NAMES.len());
        let columns: Vec<String> = Ops::Clock.spec().columns.into_iter().map(|column| column.name).collect();
        for (field, column) in NAMES {
            assert!(fields.iter().any(|name| name == field), "{field}");
            assert!(columns.iter().any(|name| name == column), "{column}");
        }
    }

    fn set(schema: &Schema, pairs: &[(&str, Value)]) -> Vec<Value> {
        let value =
            |name: &str| pairs.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone());
        schema.fields.iter().map(|field| value(field.name.as_str()).unwrap_or(Value::Null)).collect()
    }

    fn cell(cells: &[(&str, Cell)], name: &str) -> Cell {
        cells.iter().find(|(column, _)| *column == name).map_or(Cell::Null, |(_, cell)| cell.clone())
    }

    #[test]
    fn a_step_says_what_the_wall_clock_was_before_and_after() {
        let schema = builtin::clock();
        let row = [
            ("row_kind", Value::I64(3)),
            ("source", Value::I64(1)),
            ("grade", Value::I64(0)),
            ("event", Value::I64(0)),
            ("b1", Value::I64(50)),
            ("real", Value::I64(1_700_000)),
            ("step", Value::I64(1_600_000)),
        ];
        let cells = clock_cells(&schema, &set(&schema, &row)).unwrap();
        assert_eq!((cell(&cells, "row_kind"), cell(&cells, "event")), ("event".into(), "step".into()));
        assert_eq!(
            (cell(&cells, "before_ns"), cell(&cells, "after_ns")),
            (100_000_i64.into(), 1_700_000_i64.into())
        );
    }

    #[test]
    fn a_row_without_kind_source_or_grade_is_none() {
        let schema = builtin::clock();
        let good = [("row_kind", Value::I64(1)), ("source", Value::I64(1)), ("grade", Value::I64(1))];
        assert!(clock_cells(&schema, &set(&schema, &good)).is_some());
        for (at, bad) in [(0, Value::I64(99)), (0, Value::Null), (1, Value::I64(-1)), (2, Value::I64(3))] {
            let mut row = good.clone();
            row[at].1 = bad;
            assert_eq!(clock_cells(&schema, &set(&schema, &row)), None, "{at}");
        }
        assert_eq!(clock_cells(&builtin::gps_fix(), &[]), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(
            kind in 0..6_i64, source in 0..11_i64, grade in 0..3_i64,
            numbers in proptest::collection::vec(proptest::option::of(any::<i64>()), 16),
            event in proptest::option::of(0..6_i64), domain in proptest::option::of(0..9_i64),
            boot_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 16)),
            detail in proptest::option::of("[ -~]{0,20}")
        ) {
            let schema = builtin::clock();
            let mut numbers = numbers.into_iter();
            let values: Vec<Value> = schema.fields.iter().map(|field| match field.name.as_str() {
                "row_kind" => Value::I64(kind),
                "source" => Value::I64(source),
                "grade" => Value::I64(grade),
                "event" => event.map_or(Value::Null, Value::I64),
                "domain" => domain.map_or(Value::Null, Value::I64),
                "boot_id" => boot_id.clone().map_or(Value::Null, Value::Bytes),
                "detail" => detail.clone().map_or(Value::Null, Value::Utf8),
                _ => numbers.next().unwrap().map_or(Value::Null, Value::I64),
            }).collect();
            let mut table = TableRows::new(Ops::Clock.spec());
            let mut cells = clock_cells(&schema, &values).unwrap();
            cells.extend([("ts", Cell::Long(0)), ("ts_ns", Cell::Long(0)), ("ts_err_ns", Cell::Long(0)), ("device", "pi".into())]);
            table.push(cells);
            let append = table.to_append().unwrap();
            let rows = ScannedRows(&append.batches[0]);
            let said = ClockRow::from_values(&schema, &values).unwrap();
            let read = ClockRow::from_table(|name| rows.text(name, 0), |name| rows.long(name, 0)).unwrap();
            prop_assert_eq!(statements_of(&read), statements_of(&said));
        }
    }
}
