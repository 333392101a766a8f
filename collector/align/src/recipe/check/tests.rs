//! Every finding by a recipe that has it and one that has not.

use super::*;
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::StampKind;

fn schema(kind: &str, fields: &[(&str, Logical, &str)]) -> Schema {
    let field = |(name, logical, unit): &(&str, Logical, &str)| Field {
        name: name.parse().unwrap(),
        logical: logical.clone(),
        nullable: true,
        unit: (*unit).to_owned(),
    };
    let fields = fields.iter().map(field).collect();
    Schema { salt: 0, kind: kind.parse().unwrap(), modality: Modality::Scalars, time_exp: 0, fields }
}

/// Two gateways: one with a camera, an IMU, a receiver and a door, the other with the weather.
fn fleet() -> Declared {
    let mut fleet = Declared::default();
    let mut add = |device: &str, stream: &str, schema: &Schema| {
        fleet.add(&device.parse().unwrap(), &stream.parse().unwrap(), schema);
    };
    let (f32, f64) = (Logical::F32, Logical::F64);
    add("pi-1", "camera/front", &builtin::image());
    add("pi-1", "gps", &builtin::gps_fix());
    let imu = [("accel_x", f32.clone(), "m/s2"), ("q_w", f64.clone(), "1"), ("count", Logical::U64, "1")];
    add("pi-1", "imu", &schema("imu", &imu));
    let door = Logical::Enum(vec!["shut".to_owned(), "open".to_owned()]);
    add("pi-1", "door", &schema("door", &[("state", door, "1"), ("locked", Logical::Bool, "1")]));
    let env = [("temperature", f64.clone(), "Cel"), ("level", Logical::I32, "1"), ("lat", f64, "rad")];
    add("pi-2", "env/roof", &schema("env", &env));
    let camera = fleet.streams.get_mut(&"camera/front".parse().unwrap()).unwrap();
    camera.values_mut().for_each(|of| of.stamps.extend([StampKind::Arrival]));
    fleet
}

const SPINE: &str = "[spine]\nstream = 'camera/front'\nselect = ['image']\n";

/// Mistakes and warnings of a column (or of `spine`, if it is one), as `path: text` lines.
fn found(section: &str) -> (String, String) {
    let spine = if section.contains("[spine]") { "" } else { SPINE };
    let column = match section.contains("[[column]]") {
        true => "",
        false => {
            "[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['accel_x']\nmethod = 'previous'\ntolerance = '1s'\n"
        }
    };
    let text = format!("headwater_recipe = 1\nname = 'r'\n{section}\n{spine}{column}");
    let recipe = Recipe::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let findings = recipe.check(&fleet());
    let lines = |list: &[Mistake]| {
        list.iter().map(|found| format!("{}: {}\n", found.path, found.text)).collect::<String>()
    };
    (lines(&findings.mistakes), lines(&findings.warnings))
}

fn column(stream: &str, select: &str, rest: &str) -> String {
    format!("[[column]]\nname = 'c'\nstream = '{stream}'\nselect = [{select}]\n{rest}\n")
}

#[test]
fn what_fits_is_left_in_peace() {
    for section in [
        "".to_owned(),
        column("imu", "'accel_x'", "method = 'linear'\nmax_gap = '1s'\nunit = { accel_x = '[g]' }"),
        column(
            "gps",
            "'lat', 'lon', 'alt_msl'",
            "method = 'geodesic'\nmax_gap = '1s'\ngeodesic = { datum = 'msl' }",
        ),
        column("camera/front", "'image'", "method = 'nearest'\ntolerance = '1s'"),
        column(
            "door",
            "'state'",
            "method = 'window'\nwindow = { from = '-1s', to = '0s' }\nstats = ['count', 'last']",
        ),
        "[spine]\nevent = { stream = 'door', where = \"state = 'open'\" }\n".to_owned(),
        "[spine]\nstream = 'camera/front'\nat = 'arrival'\n".to_owned(),
        "[spine]\ngrid = { period = '1s' }\n".to_owned(),
    ] {
        assert_eq!(found(&section), (String::new(), String::new()), "{section}");
    }
}

#[test]
fn every_mistake_has_its_words() {
    let previous = "method = 'previous'\ntolerance = '1s'";
    let linear = "method = 'linear'\nmax_gap = '1s'";
    let geodesic = "method = 'geodesic'\nmax_gap = '1s'";
    for (section, said) in [
        (
            column("imo", "'accel_x'", previous),
            "column[0].stream: no device declares imo; did you mean \"imu\"?; declared: camera/front, door, ",
        ),
        (
            column("imu", "'acel_x'", previous),
            "column[0].select[0]: imu has no field acel_x; did you mean \"accel_x\"?; it has accel_x, count, q_w",
        ),
        (
            column("camera/front", "'image'", "method = 'next'\ntolerance = '1s'"),
            "image is a blob: nothing lies between two of them",
        ),
        (column("camera/front", "'image'", linear), "write \"nearest\" or \"previous\", not linear"),
        (column("door", "'state'", linear), "state is enum: linear computes with numbers"),
        (
            column(
                "door",
                "'locked'",
                "method = 'window'\nwindow = { from = '-1s', to = '0s' }\nstats = ['mean']",
            ),
            "locked is bool: window computes",
        ),
        (column("imu", "'count'", linear), "count is u64, which tables hold as a decimal"),
        (
            column("env/roof", "'temperature'", &format!("{previous}\nunit = {{ temperature = 'm' }}")),
            "column[0].unit.temperature: temperature is in Cel, which cannot become m",
        ),
        (
            column("door", "'state'", &format!("{previous}\nunit = {{ state = '1' }}")),
            "state is enum, which has no unit",
        ),
        (
            column("env/roof", "'lat', 'temperature'", geodesic),
            "lat is in rad, geodesic reckons in deg; write unit = { lat = \"deg\" }",
        ),
        (column("env/roof", "'lat', 'temperature'", geodesic), "temperature is in Cel, which is no deg"),
        (
            column("env/roof", "'level'", &format!("{previous}\nfallback = {{ const = 0.5 }}")),
            "fallback.const.level: is not of the type of level, i32",
        ),
        (
            column("door", "'state'", &format!("{previous}\nfallback = {{ const = true }}")),
            "is not of the type of state, enum",
        ),
        (
            "[spine]\nstream = 'camera/front'\nat = 'exposure_mid'\n".to_owned(),
            "spine.at: camera/front is stamped at arrival, never at exposure_mid",
        ),
        (
            "[spine]\nevent = { stream = 'door', where = 'state > 5' }\n".to_owned(),
            "spine.event.where: state is enum and is compared",
        ),
        ("[spine]\nevent = { stream = 'door', where = 'stat > 5' }\n".to_owned(), "door has no field stat"),
        ("[spine]\nunion = ['imu', 'lidar']\n".to_owned(), "spine.union[1]: no device declares lidar"),
        (
            column("imu", "'accel_x'", &format!("{previous}\ndevice = 'pi-2'"))
                + "[keys]\nentity = ['site']\nsites = { yard = ['pi-1', 'pi-2'] }\n",
            "column[0].device: pi-2 declares no imu",
        ),
    ] {
        let (mistakes, _) = found(&section);
        assert!(mistakes.contains(said), "{section}\n{mistakes}");
    }
}

#[test]
fn what_may_not_be_meant_is_said() {
    for (section, said) in [
        (column("gps", "'cog'", "method = 'linear'\nmax_gap = '1s'"), "cog turns over at a full circle"),
        (
            column(
                "gps",
                "'lat', 'lon', 'alt_msl'",
                "method = 'geodesic'\nmax_gap = '1s'\ngeodesic = { datum = 'hae' }",
            ),
            "alt_msl looks like msl",
        ),
        (
            column("imu", "'accel_x'", "method = 'previous'\ntolerance = '1s'\nuncertainty = true"),
            "imu has no accel_x_u",
        ),
        (
            column("env/roof", "'temperature'", "method = 'previous'\ntolerance = '1s'"),
            "env/roof comes from pi-2, and no device has it beside the spine",
        ),
        (
            "[keys]\nentity = ['site']\nsites = { yard = ['pi-1', 'pi-7'] }\n".to_owned(),
            "pi-7 declares nothing yet",
        ),
    ] {
        let (mistakes, warnings) = found(&section);
        assert!(warnings.contains(said) && mistakes.is_empty(), "{section}\n{mistakes}{warnings}");
    }
}
