use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
    UInt64Array,
};
use arrow_schema::{DataType, Field};
use proptest::prelude::*;
use std::sync::Arc;

/// Three rows: everything there, everything null, odd values.
fn rows() -> RecordBatch {
    let flag: ArrayRef = Arc::new(Int32Array::from(vec![Some(9), None, Some(0)]));
    let source = StructArray::from(vec![(Arc::new(Field::new("flag", DataType::Int32, true)), flag)]);
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![
        Some(vec![Some(1.0), None]),
        None,
        Some(vec![]),
    ]);
    RecordBatch::try_from_iter_with_nullable(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(7), None, Some(i64::MAX)])) as ArrayRef, true),
        ("u", Arc::new(UInt64Array::from(vec![Some(2), None, Some(u64::MAX)])), true),
        ("f", Arc::new(Float64Array::from(vec![Some(2.5), None, Some(f64::NAN)])), true),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), true),
        ("t", Arc::new(StringArray::from(vec![Some("auto"), None, Some("it's")])), true),
        ("l", Arc::new(list), true),
        ("src", Arc::new(source), true),
    ])
    .unwrap()
}

/// The values of a formula as text.
fn shown(formula: &str) -> Vec<String> {
    let formula: Expr = formula.parse().unwrap_or_else(|error| panic!("{formula}: {error}"));
    let array = formula.evaluate(&rows()).unwrap_or_else(|error| panic!("{formula}: {error}"));
    assert_eq!(array.data_type(), &formula.check(rows().schema_ref()).unwrap().arrow(), "{formula}");
    (0..array.len())
        .map(|row| match array.data_type() {
            _ if array.is_null(row) => "null".to_owned(),
            DataType::Boolean => array.as_boolean().value(row).to_string(),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
            _ => array.as_string::<i32>().value(row).to_owned(),
        })
        .collect()
}

fn check(formula: &str, wanted: [&str; 3]) {
    assert_eq!(shown(formula), wanted, "{formula}");
}

#[test]
fn precedence_is_the_usual_one() {
    check("1 + 2 * 3", ["7"; 3]);
    check("(1 + 2) * 3", ["9"; 3]);
    check("2 - 3 - 4", ["-5"; 3]);
    check("-2 * -3", ["6"; 3]);
    check("8 / 4 / 2", ["1.0"; 3]);
    check("not 1 > 2 and 3 < 4", ["true"; 3]);
    check("true or false and false", ["true"; 3]);
    check("17 % 5 = 2", ["true"; 3]);
}

#[test]
fn null_is_sqls() {
    check("i + 1", ["8", "null", "null"]);
    check("b and false", ["false", "false", "false"]);
    check("b or true", ["true", "true", "true"]);
    check("b and true", ["true", "null", "false"]);
    check("not b", ["false", "null", "true"]);
    check("i = null", ["null"; 3]);
    check("is_null(i)", ["false", "true", "false"]);
    check("is_null(i + 1)", ["false", "true", "true"]);
    check("coalesce(i, -1)", ["7", "-1", "9223372036854775807"]);
    check("if(b, 'yes', t)", ["yes", "null", "it's"]);
    check("null", ["null"; 3]);
}

#[test]
fn integers_stay_exact_and_overflow_to_null() {
    check("i - 1", ["6", "null", "9223372036854775806"]);
    check("i * 2", ["14", "null", "null"]);
    check("i / 2", ["3.5", "null", "4.611686018427388e18"]);
    check("i % 0", ["null"; 3]);
    check("u", ["2", "null", "null"]);
    check("i > 9223372036854775806", ["false", "null", "true"]);
    check("abs(-i)", ["7", "null", "9223372036854775807"]);
}

#[test]
fn doubles_are_ieee_and_canonical() {
    check("f * 2", ["5.0", "null", "NaN"]);
    check("f = f", ["true", "null", "false"]);
    check("f != f", ["false", "null", "true"]);
    check("f < 3", ["true", "null", "false"]);
    check("f / 0", ["inf", "null", "NaN"]);
    check("0.0 * -1", ["0.0"; 3]);
    check("is_finite(f)", ["true", "null", "false"]);
    check("max(f, 1)", ["2.5", "1.0", "1.0"]);
    check("min(i, u)", ["2", "null", "9223372036854775807"]);
    check("clamp(f, 0, 1)", ["1.0", "null", "NaN"]);
    check("clamp(i, 8, 2)", ["null"; 3]);
    check("round(f) + floor(-0.5) + ceil(0.2)", ["3.0", "null", "NaN"]);
    check("sign(f)", ["1.0", "null", "NaN"]);
    let bits = |text: &str| shown(text);
    assert_eq!(bits("sqrt(2)"), vec![format!("{:?}", 2f64.sqrt()); 3]);
    assert_eq!(bits("degrees(atan2(1, 1))"), vec!["45.0"; 3]);
    assert_eq!(bits("hypot(3, 4) + pow(2, 10)"), vec!["1029.0"; 3]);
}

#[test]
fn texts_members_and_lists() {
    check("t = 'auto'", ["true", "null", "false"]);
    check("t = 'it''s'", ["false", "null", "true"]);
    check("t < \"b\"", ["true", "null", "false"]);
    check("length(t)", ["4", "null", "4"]);
    check("length(l)", ["2", "null", "0"]);
    check("src.flag", ["9", "null", "0"]);
    check("has_bits(src.flag, 8)", ["true", "null", "false"]);
    check("is_null(src.flag)", ["false", "true", "false"]);
    check("is_null(l)", ["false", "true", "false"]);
}

#[test]
fn a_mistake_says_where_and_what() {
    for (formula, wanted) in [
        ("1 +", "a formula ends where a value is expected (at byte 3"),
        ("(1", "a bracket is not closed; write `)` (at byte 2"),
        ("1 2", "2 is left over; is an operator missing before it? (at byte 2"),
        ("a < b < c", "comparisons are not chained; write `a < b and b < c` (at byte 6"),
        ("sqr(2)", "sqr is no function; did you mean \"sqrt\"? (at byte 0"),
        ("min(1)", "min takes 2 to 16 arguments, not 1 (at byte 0"),
        ("'open", "text is not closed; write ' at its end (at byte 0"),
        ("2x", "a number is followed by letters; names begin with a letter (at byte 0"),
        ("a # b", "'#' means nothing in a formula (at byte 2"),
        ("1e999", "1e999 is beyond a double (at byte 0"),
        ("a.", "a member's name is expected after the dot (at byte 2"),
        ("and", "and stands where a value is expected (at byte 0"),
        ("", "a formula ends where a value is expected (at byte 0"),
    ] {
        let error = formula.parse::<Expr>().unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{formula}: {error}");
    }
    for (formula, wanted) in [
        ("g", "no column is called g"),
        ("sr", "no column is called sr; did you mean \"src\"?"),
        ("src.flog", "src has no member flog; did you mean \"flag\"?"),
        ("i.x", "i has no members; only struct columns do"),
        ("src", "src is no number, truth or text"),
        ("l + 1", "l is a list; `length(l)` counts it"),
        ("t + 1", "`+` wants numbers on both sides, this is text"),
        ("1 and b", "`and` wants truths on both sides, this is an integer"),
        ("b < b", "truths have no order"),
        ("t = 1", "text and an integer are never compared"),
        ("-t", "`-` wants a number, this is text"),
        ("not i", "`not` wants a truth, this is an integer"),
        ("if(i, 1, 2)", "if wants a truth first, this is an integer"),
        ("coalesce(t, 1)", "coalesce wants values of one type; text came before, this is an integer"),
        ("sin(t)", "sin wants numbers, this is text"),
        ("has_bits(f, 1)", "has_bits wants integers"),
        ("length(i)", "i is neither a list nor text: it has no length"),
    ] {
        let error = formula.parse::<Expr>().unwrap().check(rows().schema_ref()).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{formula}: {error}");
        assert!(formula.parse::<Expr>().unwrap().evaluate(&rows()).is_err(), "{formula}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = "(".repeat(10_000);
    assert!(deep.parse::<Expr>().is_err());
    let nested = format!("{}1{}", "(".repeat(EXPR_DEPTH_MAX + 1), ")".repeat(EXPR_DEPTH_MAX + 1));
    assert!(nested.parse::<Expr>().unwrap_err().text.contains("deep"));
    assert!("-".repeat(2_000).parse::<Expr>().is_err());
    assert!("not ".repeat(900).parse::<Expr>().is_err());
    let chain = vec!["1"; EXPR_DEPTH_MAX + 2].join(" + ");
    assert!(chain.parse::<Expr>().unwrap_err().text.contains("chained"));
    let fits = vec!["1"; EXPR_DEPTH_MAX + 1].join(" + ");
    assert_eq!(shown(&fits), vec![(EXPR_DEPTH_MAX + 1).to_string(); 3]);
    assert!(
        format!("1 + {}", " ".repeat(EXPR_BYTES_MAX))
            .parse::<Expr>()
            .unwrap_err()
            .text
            .contains("4096 bytes")
    );
}

#[test]
fn spellings_of_one_thing_are_equal() {
    for (a, b) in [
        ("a && !b || c", "(a and (not b)) or c"),
        ("a == 1", "a = 1"),
        ("a \u{2264} 1", "a<=1"),
        ("\"x\"", "'x'"),
    ] {
        let (a, b): (Expr, Expr) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!((&a, a.to_string()), (&b, b.to_string()));
    }
    assert_ne!("1".parse::<Expr>(), "1.0".parse::<Expr>());
    assert_eq!("if(a.b > 1, c, d + a)".parse::<Expr>().unwrap().columns(), BTreeSet::from(["a", "c", "d"]));
}

/// Formulas of every form, as text.
fn formulas() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<u32>().prop_map(|n| n.to_string()),
        (0f64..1e300).prop_map(|x| format!("{x:e}")),
        "[a-c][a-z_0-9]{0,3}".prop_filter("words of the language", |w| {
            !["and", "or", "not", "abs", "cos", "ceil", "asin", "acos"].contains(&w.as_str())
        }),
        "'[ -&(-~]{0,4}'",
        Just("null".to_owned()),
        Just("c.d".to_owned()),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["+", "-", "*", "/", "%", "and", "or"]), inner.clone())
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            (inner.clone(), prop::sample::select(vec!["=", "<", ">=", "!="]), inner.clone())
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("if({a}, {b}, {c})")),
        ]
    })
}

proptest! {
    #[test]
    fn the_canonical_text_reads_back(text in formulas()) {
        let formula: Expr = text.parse().unwrap();
        let again: Expr = formula.to_string().parse().unwrap();
        prop_assert_eq!(&again, &formula);
        prop_assert_eq!(again.to_string(), formula.to_string());
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[ -~]{0,60}") {
        if let Ok(formula) = text.parse::<Expr>() {
            // What was read is refused or has a value, never a panic.
            prop_assert_eq!(formula.check(rows().schema_ref()).is_ok(), formula.evaluate(&rows()).is_ok());
        }
    }

    #[test]
    fn rows_do_not_see_each_other(text in formulas()) {
        let formula: Expr = text.parse().unwrap();
        let named = RecordBatch::try_from_iter_with_nullable(vec![
            ("a", Arc::clone(rows().column(0)), true),
            ("b", Arc::clone(rows().column(2)), true),
            ("c", Arc::clone(rows().column(4)), true),
        ]).unwrap();
        if let Ok(whole) = formula.evaluate(&named) {
            for row in 0..3 {
                let one = formula.evaluate(&named.slice(row, 1)).unwrap();
                prop_assert_eq!(one.to_data(), whole.slice(row, 1).to_data());
            }
        }
    }
}
