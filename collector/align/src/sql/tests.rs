//! What is written, what is refused; that engines understand it and give the aligner's rows is asked of DuckDB itself
//! (tests/conformance/recipes.py).

use super::*;
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};

fn declared() -> Declared {
    let field = |(name, logical, unit): (&str, Logical, &str)| Field {
        name: name.parse().unwrap(),
        logical,
        nullable: true,
        unit: unit.to_owned(),
    };
    let imu = [("accel_x", Logical::F64, "m/s2"), ("end", Logical::I32, "1")];
    let imu = Schema {
        salt: 0,
        kind: "imu".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 0,
        fields: imu.into_iter().map(field).collect(),
    };
    let mut declared = Declared::default();
    let device = "pi-1".parse().unwrap();
    for (stream, schema) in [("camera/front", builtin::image()), ("imu", imu), ("gps", builtin::gps_fix())] {
        declared.add(&device, &stream.parse().unwrap(), &schema);
    }
    declared
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(&format!("headwater_recipe = 1\nname = 'r'\n{text}")).unwrap()
}

const STREAM: &str = "[spine]\nstream = 'camera/front'\nselect = ['image', 'width']\n";
const ALL: &str = "[[column]]\nname = 'p'\nstream = 'imu'\nselect = ['accel_x', 'end']\nmethod = 'previous'\ntolerance = '1s'\nunit = { accel_x = '[g]' }\nfallback = { const = { accel_x = 0.5 } }\n[[column]]\nname = 'l'\nstream = 'imu'\nselect = ['accel_x']\nmethod = 'linear'\nmax_gap = '1s'\noffset = '-3ms'\n[[column]]\nname = 'w'\nstream = 'imu'\nselect = ['accel_x']\nmethod = 'window'\nwindow = { from = '-1s', to = '0s' }\nstats = ['mean', 'first']\n[[column]]\nname = 'f'\nstream = 'camera/front'\nselect = ['image']\nmethod = 'nearest'\ntolerance = '1s'\n";

#[test]
fn every_dialect_is_written_as_its_golden() {
    for (dialect, name) in [(Dialect::DuckDb, "duckdb"), (Dialect::Spark, "spark"), (Dialect::Trino, "trino")]
    {
        let sql = emit(&recipe(&format!("{STREAM}{ALL}")), &declared(), dialect).unwrap();
        crate::recipe::tests::same_as_golden(&format!("sql.{name}"), &sql);
    }
}

#[test]
fn names_that_engines_reserve_and_pictures_are_understood() {
    let sql = emit(&recipe(&format!("{STREAM}{ALL}")), &declared(), Dialect::Spark).unwrap();
    assert!(
        sql.contains("`end` AS f1") && sql.contains("AS `f_image_hash`") && sql.contains("`hash` AS s0"),
        "{sql}"
    );
    assert!(sql.contains("AS `image_hash`") && sql.contains("ts_ns + (-3000000)"), "{sql}");
}

#[test]
fn what_sql_cannot_say_is_refused_all_at_once() {
    let text = "[spine]\nunion = ['imu', 'gps']\n[time]\nmode = 'certain'\n[[column]]\nname = 'g'\nstream = 'gps'\nselect = ['lat', 'lon']\nmethod = 'geodesic'\nmax_gap = '1s'\nuncertainty = true\n[[column]]\nname = 'l'\nstream = 'imu'\nselect = ['accel_x']\nmethod = 'list'\nwindow = { from = '-1s', to = '0s' }\nmax_items = 5\n[[derive]]\nname = 'd'\nexpression = 'g_lat > 1'\n";
    let said = emit(&recipe(text), &declared(), Dialect::DuckDb).unwrap_err();
    let paths: Vec<&str> = said.0.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spine.union",
            "time.mode",
            "derive",
            "column[0].uncertainty",
            "column[0].method",
            "column[1].method"
        ]
    );
    let unknown = format!(
        "{STREAM}[[column]]\nname = 'p'\nstream = 'imo'\nselect = ['x']\nmethod = 'next'\ntolerance = '1s'\n"
    );
    let said = emit(&recipe(&unknown), &declared(), Dialect::Trino).unwrap_err().to_string();
    assert!(said.contains("did you mean \"imu\"?"), "{said}");
}

#[test]
fn texts_cannot_leave_their_quotes() {
    let text = format!(
        "{STREAM}[[column]]\nname = 'p'\nstream = 'camera/front'\nselect = ['mime']\nmethod = 'previous'\ntolerance = '1s'\nfallback = {{ const = \"it's \\\\ here\" }}\n"
    );
    for (dialect, literal) in [(Dialect::DuckDb, r"'it''s \ here'"), (Dialect::Spark, r"'it\'s \\ here'")] {
        let sql = emit(&recipe(&text), &declared(), dialect).unwrap();
        assert!(sql.contains(literal), "{sql}");
    }
}

/// A stamp of a millisecond may have been up to a millisecond earlier: uncertainties say so, as the aligner's do.
#[test]
fn the_unit_of_stamps_widens_uncertainties() {
    let mut declared = declared();
    let (device, stream) = ("pi-2".parse().unwrap(), "imu".parse().unwrap());
    let mut coarse = builtin::gps_fix();
    (coarse.kind, coarse.time_exp) = ("imu".parse().unwrap(), 6);
    coarse.fields = vec![Field {
        name: "accel_x".parse().unwrap(),
        logical: Logical::F64,
        nullable: true,
        unit: "m/s2".to_owned(),
    }];
    let fingerprint = coarse.fingerprint().0;
    let plain = emit(&recipe(&format!("{STREAM}{ALL}")), &declared, Dialect::DuckDb).unwrap();
    assert!(!plain.contains("THEN 999999"), "what is stamped to the nanosecond is not widened");
    declared.add(&device, &stream, &coarse);
    let sql = emit(&recipe(&format!("{STREAM}{ALL}")), &declared, Dialect::DuckDb).unwrap();
    let widened = format!(" + CASE schema_fp WHEN {fingerprint} THEN 999999 ELSE 0 END AS half");
    assert_eq!(sql.matches(&widened).count(), 3, "in each column of it, and nowhere else: {sql}");
}

/// Writes the queries that `tests/conformance/recipes.py` runs, into `HEADWATER_RECIPE_SQL`; what stamps of `imu` are floored
/// to is written beside them.
#[test]
#[ignore = "a step of tests/run: tests/run recipes"]
fn queries_for_other_engines() {
    let to = std::path::PathBuf::from(std::env::var_os("HEADWATER_RECIPE_SQL").unwrap());
    std::fs::create_dir_all(&to).unwrap();
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/recipes");
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let recipe = Recipe::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let dialects = [(Dialect::DuckDb, "duckdb"), (Dialect::Spark, "spark"), (Dialect::Trino, "trino")];
        for (dialect, name) in dialects {
            let mut declared = declared();
            let of_imu = declared.streams.get_mut(&"imu".parse().unwrap()).unwrap();
            // Two declarations, of which one is coarse.
            of_imu.values_mut().for_each(|of| of.units_ns = [(77, 1_000_000)].into());
            let sql = emit(&recipe, &declared, dialect).unwrap();
            std::fs::write(to.join(format!("{}.{name}.sql", recipe.name)), sql).unwrap();
        }
    }
}
