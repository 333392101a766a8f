//! Files of rules, good and bad.

use super::*;
use proptest::prelude::*;

const HEAD: &str = "headwater_gate = 1\nname = \"t\"\n";

fn mistakes(body: &str) -> Vec<String> {
    match RuleSet::parse(&format!("{HEAD}{body}")) {
        Ok(set) => panic!("{set:?} should have mistakes"),
        Err(RulesError(mistakes)) => {
            mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.path, mistake.text)).collect()
        }
    }
}

fn rule(keys: &str) -> String {
    format!("[[rule]]\nname = \"r\"\n{keys}")
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = mistakes(
        "tabels = [\"a\"]\n[[rule]]\nname = \"R 1\"\ncheck = \"range\"\ncolumns = [\"a\", \"a\"]\nmin = 2\nmax = 1\nfail_percent = 101\n\
         [[rule]]\nname = \"b\"\ncheck = \"stucc\"\n[[rule]]\nname = \"b\"\ncheck = \"stuck\"\nrows = 1\nwarn_above = 3\n",
    );
    let beginnings = [
        "tabels: unknown key; did you mean \"tables\"?",
        "rule[0].name: \"R 1\"",
        "rule[0].min: lies above max",
        "rule[0].columns: a stands here twice",
        "rule[0].fail_percent: expected percent",
        "rule[1].check: \"stucc\" is none; did you mean \"stuck\"?",
        "rule[2].name: \"b\" stands here twice",
        "rule[2].warn_above: unknown key",
        "rule[2].columns: missing: columns",
        "rule[2].rows: expected a whole number from 2",
    ];
    for beginning in beginnings {
        assert!(found.iter().any(|text| text.starts_with(beginning)), "{beginning} is not in {found:#?}");
    }
    assert_eq!(found.len(), beginnings.len(), "{found:#?}");
}

#[test]
fn files_that_are_none() {
    let whole = |text: &str| RuleSet::parse(text).unwrap_err().to_string();
    assert!(whole("name = ").contains("file: "));
    let empty = whole("");
    for word in ["headwater_gate: missing", "name: missing", "rule: expected at least one [[rule]]"] {
        assert!(empty.contains(word), "{empty}");
    }
    assert!(whole("headwater_gate = 2\nname = 'x'\nrule = 1").contains("it knows 1"));
    assert!(whole(&" ".repeat(RULES_BYTES_MAX + 1)).contains("split it"));
    let many = (0..=RULES_MAX).map(|n| format!("[[rule]]\nname = \"r{n}\"\ncheck = \"time_order\"\n"));
    assert!(mistakes(&many.collect::<String>())[0].contains("at most 256"));
}

#[test]
fn limits_and_bounds_make_sense() {
    for (keys, words) in [
        ("check = \"rows\"", "rule[0].fail_above: missing: give at least one of"),
        ("check = \"rows\"\nfail_below = 5\nfail_above = 4", "rule[0].fail_below: lies above"),
        ("check = \"rows\"\nfail_below = 5\nwarn_below = 4", "rule[0].warn_below: lies below"),
        ("check = \"rows\"\nfail_above = 5\nwarn_above = 6", "rule[0].warn_above: lies above"),
        ("check = \"time_order\"\nwarn_percent = 5\nfail_percent = 4", "rule[0].warn_percent: 5 lies above"),
        (
            "check = \"coverage\"\nfail_percent = 5\nfail_below_percent = 95",
            "rule[0].fail_below_percent: stands beside",
        ),
        ("check = \"interval\"\nmin = \"2s\"\nmax = \"1s\"", "rule[0].max: lies below min"),
        ("check = \"interval\"\nmax = \"-1s\"", "rule[0].max: expected a number and ns"),
        ("check = \"spike\"\ncolumns = [\"a\"]\nmax = 0", "rule[0].max: expected more than 0"),
        ("check = \"spike\"\ncolumns = [\"a\"]\nmax = nan", "rule[0].max: expected a finite number"),
        ("check = \"geofence\"\nlat = \"a\"\nlon = \"b\"", "rule[0].circle: expected one of"),
        (
            "check = \"geofence\"\nlat = \"a\"\nlon = \"b\"\npolygon = [[91, 0], [0, 0], [1, 1]]",
            "rule[0].polygon: expected",
        ),
        ("check = \"image\"\nlooks = 65", "rule[0].looks: expected a whole number from 0 to 64"),
        ("check = \"image\"\nmin_brightness = 9\nmax_brightness = 8", "rule[0].min_brightness: lies above"),
        ("check = \"schema\"", "rule[0].columns: missing: give columns"),
        ("check = \"schema\"\ncolumns = { a = \"real\" }", "rule[0].columns: expected types"),
        ("check = \"time_range\"\nearliest = \"yesterday\"", "rule[0].earliest: expected a moment"),
        ("check = \"range\"\ncolumns = [\"a\"]", "rule[0].min: missing"),
        (
            "check = \"time_order\"\npolicy = \"delete\"",
            "rule[0].policy: expected one of quarantine, hold, warn",
        ),
        (
            "check = \"time_order\"\ndevices = [\"*-1\"]",
            "rule[0].devices: \"*-1\": a * may stand at the end only",
        ),
        ("check = \"drift\"\ncolumns = [\"a\"]\nfail_above = 1", "rule[0].reference: missing"),
        ("check = \"expression\"\nexpect = \"a +\"", "rule[0].expect: "),
        ("check = \"expression\"\nexpect = \"a + 1\"", "rule[0].expect: "),
        ("check = \"time_order\"\nwhere = \"mean(mean(a)) > 1\"", "rule[0].where: mean stands within mean"),
    ] {
        let found = mistakes(&rule(keys));
        assert!(found.iter().any(|text| text.starts_with(words)), "{keys}: {found:#?}");
    }
}

/// Each rule makes sense alone; together they would hold everything, and that is said before they do.
#[test]
fn rules_that_no_rows_can_pass_together_are_told_apart() {
    let two = |a: &str, b: &str| format!("[[rule]]\nname = \"a\"\n{a}\n[[rule]]\nname = \"b\"\n{b}\n");
    let range = |ends: &str| format!("check = \"range\"\ncolumns = [\"x\", \"y\"]\n{ends}");
    for (a, b, words) in [
        (
            range("max = 1"),
            range("min = 2"),
            "rule[1].min: leaves nothing to pass beside rule[0] (a): x is to be at most 1",
        ),
        (
            "check = \"rows\"\nfail_below = 100".to_owned(),
            "check = \"rows\"\nfail_above = 50\nwarn_above = 40".to_owned(),
            "rule[1].fail_above: leaves nothing to pass beside rule[0] (a): the number of rows is to be at least 100",
        ),
        (
            "check = \"rate\"\ncolumn = \"imu\"\nfail_below = 90\nfail_above = 110".to_owned(),
            "check = \"rate\"\ncolumn = \"imu\"\nfail_above = 60\ndevices = [\"pi-*\"]".to_owned(),
            "rule[1].fail_above: leaves nothing to pass beside rule[0] (a): the rate of imu is to be 90 to 110",
        ),
        (
            "check = \"schema\"\ncolumns = { x = \"text\" }".to_owned(),
            "check = \"schema\"\ncolumns = { x = \"number\" }".to_owned(),
            "rule[1].columns: wants x to be number, and rule[0] (a) wants text",
        ),
    ] {
        let found = mistakes(&two(&a, &b));
        assert!(found.iter().any(|text| text.starts_with(words)), "{found:#?}");
    }
    for (a, b) in [
        (range("max = 1"), range("min = 1")),
        (range("max = 1"), range("min = 2\nwhere = \"x > 1\"")),
        (range("max = 1"), range("min = 2\npolicy = \"warn\"")),
        (range("max = 1"), range("min = 2\nfail_percent = 60")),
        (range("max = 1\ndevices = [\"a\"]"), range("min = 2\ndevices = [\"b\"]")),
        (
            "check = \"rows\"\nfail_below = 9".to_owned(),
            "check = \"rows\"\nfail_above = 5\nscope = \"window\"".to_owned(),
        ),
        (
            "check = \"schema\"\ncolumns = { x = \"integer\" }".to_owned(),
            "check = \"schema\"\ncolumns = { x = \"number\" }".to_owned(),
        ),
    ] {
        let text = format!("{HEAD}{}", two(&a, &b));
        assert!(RuleSet::parse(&text).is_ok(), "{:?}", RuleSet::parse(&text));
    }
}

#[test]
fn one_meaning_has_one_id() {
    let id = |text: &str| RuleSet::parse(text).unwrap().id();
    let plain =
        id(&format!("{HEAD}{}", rule("check = \"coverage\"\nfail_below_percent = 95\nwithin = \"100ms\"")));
    for alike in [
        "check = \"coverage\"\nfail_percent = 5\nwithin = \"0.1s\"",
        "doc = \"95 % of frames have a fix\"\ncheck = \"coverage\"\nfail_percent = 5.0\nwithin = \"100 ms\"\nscope = \"device\"\npolicy = \"quarantine\"\ncolumns = [\"*\"]",
    ] {
        assert_eq!(id(&format!("{HEAD}doc = \"x\"\ntables = [\"aligned.*\"]\n{}", rule(alike))), plain);
    }
    for other in [
        "check = \"coverage\"\nfail_percent = 6\nwithin = \"100ms\"",
        "check = \"coverage\"\nfail_percent = 5\nwithin = \"101ms\"",
    ] {
        assert_ne!(id(&format!("{HEAD}{}", rule(other))), plain);
    }
    let formula =
        |text: &str| id(&format!("{HEAD}{}", rule(&format!("check = \"expression\"\nexpect = \"{text}\""))));
    assert_eq!(formula("mean(a)>9 && not(b)"), formula("(mean( a ) > 9) and not b"));
    assert_ne!(formula("mean(a) > 9"), formula("mean(b) > 9"));
    // The form itself is fixed: a change of it would give every set another version.
    let set = RuleSet::parse(&format!("{HEAD}{}", rule("check = \"rows\"\nfail_below = 1.5"))).unwrap();
    assert_eq!(
        set.canonical(),
        r#"{"headwater_gate":1,"name":"t","rule":[{"check":"rows","devices":[],"limits":{"fail":["1.5",null],"warn":[null,null]},"min_rows":"0","name":"r","of":null,"optional":false,"policy":"quarantine","scope":"device","where":null}],"tables":["aligned.*"]}"#
    );
}

#[test]
fn the_schema_knows_what_the_reader_knows() {
    let schema = RuleSet::json_schema();
    let checks = schema["properties"]["rule"]["items"]["oneOf"].as_array().unwrap();
    assert_eq!(checks.len(), keys::CHECKS.len());
    for check in keys::CHECKS {
        // Every check can be read with its needed keys, and gives itself back.
        let values = check.needs.iter().map(|need| {
            let holds = check.keys.iter().find(|key| key.name == *need).unwrap().holds;
            let value = match holds {
                Holds::Texts => "[\"a\"]",
                Holds::Number => "1",
                Holds::Count => "3",
                Holds::Duration => "\"1s\"",
                Holds::Formula => "\"a > 1\"",
                _ => "\"x\"",
            };
            format!("{need} = {value}\n")
        });
        let extra = match (check.name, check.measures) {
            (_, Measures::Value(_)) => "fail_above = 1\n",
            ("range", _) => "min = 0\n",
            ("schema", _) => "required = [\"a\"]\n",
            ("geofence", _) => "circle = { lat = 1, lon = 2, radius_m = 3 }\n",
            _ => "",
        };
        let keys = format!("check = \"{}\"\n{}{extra}", check.name, values.collect::<String>());
        let set = RuleSet::parse(&format!("{HEAD}{}", rule(&keys)))
            .unwrap_or_else(|error| panic!("{keys}: {error}"));
        assert_eq!(set.rules[0].check.name(), check.name);
        assert!(set.explain().contains(check.about));
    }
}

#[test]
fn the_built_in_rules_are_a_file_like_any_other() {
    let thresholds =
        crate::gate::Thresholds { unmatched_warn: 50, unmatched_fail: 90, gap_warn: 10, gap_fail: 100 };
    let set = crate::gate::builtin(&thresholds).unwrap();
    let names: Vec<&str> = set.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names.join(" "),
        "schema time_range time_order error_bound image_whole duplicates provisional modality_coverage gap_ratio"
    );
    assert!(set.concerns("aligned.drive") && !set.concerns("raw.imu"));
    assert_eq!(set.rules[7].limits, Limits::Share { warn_percent: 50.0, fail_percent: 90.0 });
}

const KEYS: [&str; 11] =
    ["name", "check", "columns", "max", "min", "rows", "expect", "where", "fail_percent", "circle", "policy"];
const VALUES: [&str; 12] = [
    "1",
    "-1",
    "nan",
    "\"range\"",
    "\"spike\"",
    "\"expression\"",
    "[\"a\"]",
    "{ a = 1 }",
    "true",
    "\"1s\"",
    "\"a > b\"",
    "\"mean(a) >\"",
];

proptest! {
    #[test]
    fn whatever_is_read_is_rules_or_mistakes(text in "\\PC{0,200}",
        keys in proptest::collection::vec((0..KEYS.len(), 0..VALUES.len()), 0..8)) {
        let body: String = keys.iter().map(|(key, value)| format!("{} = {}\n", KEYS[*key], VALUES[*value])).collect();
        for text in [text, format!("{HEAD}[[rule]]\n{body}")] {
            if let Err(error) = RuleSet::parse(&text) {
                prop_assert!(!error.0.is_empty());
            }
        }
    }
}
