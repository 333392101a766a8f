//! The kernel's files as a folder: sensors that come, go, fail and lie, polled on a clock turned by hand.

use super::super::arrival::Declared;
use super::*;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::Schema;
use headwater_sim::clock::SimClock;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

/// Writes files below a root, folders as needed.
fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A BME280 at 0x76 on I²C bus 1, as sysfs lays it out.
fn bme280(root: &Path) {
    let real = "sys/devices/platform/soc/i2c-1/1-0076/iio:device0";
    for (file, text) in [
        ("name", "bme280\n"),
        ("in_temp_input", "23450\n"),
        ("in_pressure_input", "101.325000000\n"),
        ("in_humidityrelative_input", "45120\n"),
        ("in_temp_oversampling_ratio", "2\n"),
    ] {
        write(root, &[(&format!("{real}/{file}"), text)]);
    }
    fs::create_dir_all(root.join("sys/bus/iio/devices")).unwrap();
    symlink(root.join(real), root.join("sys/bus/iio/devices/iio:device0")).unwrap();
}

fn w1(root: &Path, rom: &str, answer: &str) {
    write(root, &[(&format!("sys/bus/w1/devices/{rom}/w1_slave"), answer)]);
}

const GOOD: &str = "6e 01 4b 46 7f ff 02 10 71 : crc=71 YES\n6e 01 4b 46 7f ff 02 10 71 t=22875\n";

/// A Pi with a card, a cable and radio.
fn pi(root: &Path) {
    write(
        root,
        &[
            ("proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\n"),
            ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"),
            ("proc/loadavg", "0.52 0.58 0.59 1/467 12345\n"),
            ("proc/uptime", "12345.67 40000.00\n"),
            ("proc/net/wireless", "a\nb\n wlan0: 0000   54.  -56.  -256  0 0 0 0 0 0\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ("sys/class/mmc_host/mmc0/mmc0:0001/life_time", "0x01 0x02\n"),
            ("sys/class/mmc_host/mmc0/mmc0:0001/pre_eol_info", "0x01\n"),
            ("sys/block/mmcblk0/stat", "1 2 3 4 5 6 1000 8 9 10 11\n"),
            ("sys/block/loop0/stat", "1 2 3 4 5 6 7 8 9 10 11\n"),
            ("sys/class/net/lo/operstate", "unknown\n"),
            ("sys/class/net/wlan0/operstate", "up\n"),
            ("sys/class/net/wlan0/device/uevent", ""),
            ("sys/class/net/wlan0/statistics/rx_bytes", "123456\n"),
        ],
    );
}

struct Bench {
    root: TempDir,
    clock: SimClock,
    source: SysSource<SimClock>,
    schemas: BTreeMap<String, Schema>,
}

impl Bench {
    fn new(what: SysWhat, stream: &str, prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let clock = SimClock::start();
        let arrivals = Arrivals::of_program(Declared::default(), 0);
        let of = (what, Duration::from_secs(10));
        let source =
            SysSource::new(clock.clone(), SysTree::at(root.path()), (stream.parse().unwrap(), arrivals), of);
        Self { root, clock, source, schemas: BTreeMap::new() }
    }

    async fn reading(&mut self) -> (String, Reading) {
        loop {
            match self.source.next().await.unwrap() {
                SourceEvent::Stream { name, schema } => {
                    schema.check().unwrap();
                    self.schemas.insert(name.to_string(), schema);
                }
                SourceEvent::Reading { stream, reading } => {
                    let schema = &self.schemas[stream.as_str()];
                    assert!(
                        reading.values.iter().zip(&schema.fields).all(|(value, field)| value.fits(field))
                    );
                    assert_eq!(reading.values.len(), schema.fields.len());
                    return (stream.to_string(), reading);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next reading by field, with units.
    async fn values(&mut self) -> (String, BTreeMap<String, Value>) {
        let (stream, reading) = self.reading().await;
        let fields = &self.schemas[&stream].fields;
        let named = fields.iter().map(|field| format!("{} {}", field.name, field.unit)).zip(reading.values);
        (stream, named.collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_chip_says_its_fields_and_units_itself() {
    let mut bench = Bench::new(SysWhat::Iio, "env", bme280);
    let (stream, values) = bench.values().await;
    assert_eq!(stream, "env/bme280.1-0076");
    assert_eq!(values["temp Cel"], Value::F64(23.45));
    assert_eq!(values["pressure kPa"], Value::F64(101.325));
    assert_eq!(values["humidityrelative %"], Value::F64(45.12));
    assert_eq!(values.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn looks_keep_their_raster_and_stamps_are_the_sources_clock() {
    let mut bench = Bench::new(SysWhat::Iio, "env", bme280);
    let started = bench.clock.boot();
    for n in 0..4 {
        let (_, reading) = bench.reading().await;
        assert_eq!(reading.t, started.plus_ms(n * 10_000));
        assert_eq!(reading.latency.lo_ns, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_chip_that_is_pulled_out_and_put_back_goes_on() {
    let mut bench = Bench::new(SysWhat::Iio, "pulled", bme280);
    bench.reading().await;
    let link = bench.root.path().join("sys/bus/iio/devices/iio:device0");
    fs::remove_file(&link).unwrap();
    let down = bench.clock.boot().plus_ms(25_000);
    tokio::select! {
        event = bench.source.next() => panic!("{event:?}"),
        () = bench.clock.sleep_until(down) => {}
    }
    assert!(crate::telemetry::sources_down().get("pulled").is_some_and(|why| why.contains("dtoverlay")));
    assert_eq!(crate::telemetry::troubles().get("pulled").map(String::as_str), Some("bme280.1-0076 is gone"));
    // Another number, the same chip in the same place: the same stream.
    symlink(
        bench.root.path().join("sys/devices/platform/soc/i2c-1/1-0076/iio:device0"),
        link.with_file_name("iio:device4"),
    )
    .unwrap();
    assert_eq!(bench.reading().await.0, "pulled/bme280.1-0076");
    assert_eq!(bench.schemas.len(), 1);
    assert!(!crate::telemetry::sources_down().contains_key("pulled"));
    assert!(!crate::telemetry::troubles().contains_key("pulled"));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_read_is_missing_and_counted() {
    let mut bench = Bench::new(SysWhat::Iio, "broken", bme280);
    let chip = bench.root.path().join("sys/devices/platform/soc/i2c-1/1-0076/iio:device0");
    fs::write(chip.join("in_temp_input"), "").unwrap();
    let before = crate::telemetry::counts().get("sys_read_errors").copied().unwrap_or(0);
    let (_, values) = bench.values().await;
    assert_eq!((&values["temp Cel"], &values["pressure kPa"]), (&Value::Null, &Value::F64(101.325)));
    assert!(crate::telemetry::counts()["sys_read_errors"] > before);
}

#[tokio::test(start_paused = true)]
async fn thermometers_that_fail_give_no_rows_and_the_others_do() {
    let mut bench = Bench::new(SysWhat::W1, "w1", |root| {
        w1(root, "28-00000001", GOOD);
        w1(root, "28-00000002", &GOOD.replace("YES", "NO"));
        w1(
            root,
            "28-00000003",
            "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n",
        );
        w1(root, "28-00000004", "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n");
        write(
            root,
            &[
                ("sys/bus/w1/devices/28-00000005/temperature", "21500\n"),
                ("sys/bus/w1/devices/w1_bus_master1/x", ""),
            ],
        );
    });
    let count = |name: &str| crate::telemetry::counts().get(name).copied().unwrap_or(0);
    let names = ["w1_crc_errors", "w1_power_on", "w1_no_answer"];
    let before = names.map(count);
    let (first, second) = (bench.values().await, bench.values().await);
    assert_eq!((first.0.as_str(), &first.1["temperature Cel"]), ("w1/28-00000001", &Value::F64(22.875)));
    assert_eq!((second.0.as_str(), &second.1["temperature Cel"]), ("w1/28-00000005", &Value::F64(21.5)));
    assert_eq!(bench.values().await.0, "w1/28-00000001", "the next look");
    assert!(names.map(count).iter().zip(before).all(|(now, before)| *now > before));
}

#[tokio::test(start_paused = true)]
async fn labels_and_faults_of_hardware_monitoring() {
    let mut bench = Bench::new(SysWhat::Hwmon, "board", |root| {
        write(
            root,
            &[
                ("sys/class/hwmon/hwmon0/name", "ina219\n"),
                ("sys/class/hwmon/hwmon0/in1_input", "12040\n"),
                ("sys/class/hwmon/hwmon0/in1_label", "Bus\n"),
                ("sys/class/hwmon/hwmon0/curr1_input", "-350\n"),
                ("sys/class/hwmon/hwmon0/power1_input", "4214000\n"),
                ("sys/class/hwmon/hwmon0/temp1_input", "0\n"),
                ("sys/class/hwmon/hwmon0/temp1_fault", "1\n"),
                ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
                ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
            ],
        );
    });
    let (stream, values) = bench.values().await;
    assert_eq!(stream, "board/ina219");
    let expected = [("curr1 A", -0.35), ("in_bus V", 12.04), ("power1 W", 4.214)];
    assert!(expected.iter().all(|(name, value)| values[*name] == Value::F64(*value)), "{values:?}");
    assert_eq!(values["temp1 Cel"], Value::Null, "its sensor is faulty");
}

#[tokio::test(start_paused = true)]
async fn a_machine_tells_how_it_is_and_what_it_does_not_tell_is_missing() {
    let mut bench = Bench::new(SysWhat::Host { dir: "/".into() }, "host", pi);
    let (stream, values) = bench.values().await;
    assert_eq!(stream, "host");
    let is = |name: &str, value: Value| assert_eq!(values[name], value, "{name}");
    is("soc_temperature Cel", Value::F64(48.312));
    // 0x50005: under-voltage and throttling, now and since boot.
    is("under_voltage 1", Value::I64(1));
    is("frequency_capped 1", Value::I64(0));
    is("throttled 1", Value::I64(1));
    is("under_voltage_since_boot 1", Value::I64(1));
    is("soft_temperature_limit_since_boot 1", Value::I64(0));
    is("cpu_busy %", Value::Null);
    is("load_1min 1", Value::F64(0.52));
    is("memory_available By", Value::I64(614_400));
    is("disk_written By", Value::I64(512_000));
    is("card_life_used_a %", Value::F64(10.0));
    is("card_life_used_b %", Value::F64(20.0));
    is("card_spare 1", Value::I64(0));
    is("uptime s", Value::F64(12_345.67));
    assert!(matches!(values["disk_free By"], Value::I64(bytes) if bytes > 0));
    let (stream, link) = bench.values().await;
    assert_eq!(stream, "host/wlan0", "and not lo");
    assert_eq!((&link["up 1"], &link["received By"]), (&Value::I64(1), &Value::I64(123_456)));
    assert_eq!((&link["radio_signal dB{mW}"], &link["sent By"]), (&Value::F64(-56.0), &Value::Null));
    // The next look knows the ticks of this one.
    write(bench.root.path(), &[("proc/stat", "cpu  130 0 60 850 60 0 0 0 20 0\n")]);
    assert_eq!(bench.values().await.1["cpu_busy %"], Value::F64(40.0));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_no_pi_tells_what_it_has() {
    let mut bench = Bench::new(SysWhat::Host { dir: "/".into() }, "pc", |root| {
        write(
            root,
            &[
                ("proc/stat", "cpu  1 2 3 4\n"),
                ("sys/class/hwmon/hwmon2/name", "rpi_volt\n"),
                ("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "1\n"),
            ],
        );
    });
    let (_, values) = bench.values().await;
    assert_eq!(
        values["under_voltage 1"],
        Value::I64(1),
        "the driver's alarm, where the firmware's flags are not told"
    );
    for missing in ["throttled 1", "soc_temperature Cel", "card_spare 1", "memory_total By", "uptime s"] {
        assert_eq!(values[missing], Value::Null, "{missing}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_there_is_told_and_looked_for_again() {
    let mut bench = Bench::new(SysWhat::W1, "later", |_| {});
    let soon = bench.clock.boot().plus_ms(15_000);
    tokio::select! {
        event = bench.source.next() => panic!("{event:?}"),
        () = bench.clock.sleep_until(soon) => {}
    }
    assert!(crate::telemetry::sources_down().get("later").is_some_and(|why| why.contains("w1-gpio")));
    w1(bench.root.path(), "28-00000001", GOOD);
    assert_eq!(bench.reading().await.0, "later/28-00000001");
    assert!(!crate::telemetry::sources_down().contains_key("later"));
}

#[tokio::test(start_paused = true)]
async fn dropping_next_loses_no_reading() {
    let mut bench = Bench::new(SysWhat::W1, "w1", |root| w1(root, "28-00000001", GOOD));
    let (mut readings, started) = (0, bench.clock.boot());
    while readings < 3 {
        let at = bench.clock.boot().plus_ms(1);
        tokio::select! {
            biased;
            () = bench.clock.sleep_until(at) => {}
            event = bench.source.next() => readings += u64::from(matches!(event, Ok(SourceEvent::Reading { .. }))),
        }
    }
    let took = bench.clock.boot().since(started);
    assert!((20_000_000_000..20_100_000_000).contains(&took), "{took}: one look each 10 s");
}

/// Lets go of whoever waits to read a FIFO, also where a test failed.
struct Release(std::path::PathBuf);

impl Drop for Release {
    fn drop(&mut self) {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        drop(rustix::fs::open(&self.0, flags, rustix::fs::Mode::empty()));
    }
}

/// A read that hangs in the kernel: a FIFO that nobody writes blocks its opener in the same way.
#[tokio::test]
async fn a_bus_that_hangs_is_told_and_holds_nobody_up() {
    use crate::clock::BootClock;
    let root = tempfile::tempdir().unwrap();
    let slave = root.path().join("sys/bus/w1/devices/28-00000001/w1_slave");
    fs::create_dir_all(slave.parent().unwrap()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &slave,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let _release = Release(slave.clone());
    let arrivals = Arrivals::of_program(Declared::default(), 0);
    let of = (SysWhat::W1, Duration::from_millis(100));
    let mut source =
        SysSource::new(BootClock, SysTree::at(root.path()), ("hung".parse().unwrap(), arrivals), of);
    let soon = BootClock.boot().plus_ms(50);
    tokio::select! {
        event = source.next() => panic!("{event:?}"),
        () = BootClock.sleep_until(soon) => {}
    }
    // The minute is over.
    source.hang_at = BootClock.boot();
    let later = BootClock.boot().plus_ms(250);
    tokio::select! {
        event = source.next() => panic!("{event:?}"),
        () = BootClock.sleep_until(later) => {}
    }
    assert!(
        crate::telemetry::sources_down().get("hung").is_some_and(|why| why.contains("hung in the kernel"))
    );
    // What hung comes back with an answer, which is as old as it took, and looks that were missed are counted.
    let before = crate::telemetry::counts().get("polls_missed").copied().unwrap_or(0);
    let writer = slave.clone();
    let answered = tokio::task::spawn_blocking(move || fs::write(writer, GOOD));
    assert!(matches!(source.next().await, Ok(SourceEvent::Stream { .. })));
    let Ok(SourceEvent::Reading { reading, .. }) = source.next().await else { panic!("a reading") };
    answered.await.unwrap().unwrap();
    assert!(reading.latency.hi_ns >= 100_000_000, "{:?}", reading.latency);
    assert!(!crate::telemetry::sources_down().contains_key("hung"));
    fs::remove_file(&slave).unwrap();
    write(root.path(), &[("sys/bus/w1/devices/28-00000001/w1_slave", GOOD)]);
    assert!(matches!(source.next().await, Ok(SourceEvent::Reading { .. })));
    assert!(crate::telemetry::counts().get("polls_missed").copied().unwrap_or(0) > before);
}
