//! Programs as sources: they end, are started again, and are gone when their source is.

use super::arrival::Declared;
use super::*;
use crate::clock::BootClock;
use crate::config::{CommandLine, LineFormat, LineSettings, Retention};
use crate::domains::DomainNumbers;
use headwater_core::schema::{Field, Logical, Modality, Schema};
use std::time::Duration;

fn shell(script: &str) -> CommandLine {
    CommandLine { program: "sh".into(), args: vec!["-c".into(), script.into()] }
}

fn exec(script: &str, once: bool) -> AnySource<BootClock> {
    let field =
        Field { name: "x".parse().unwrap(), logical: Logical::I64, nullable: false, unit: "1".into() };
    let schema = Schema {
        salt: 0,
        kind: "env".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![field],
    };
    let lines = LineSettings { schema, format: LineFormat::Csv(b',') };
    let kind = SourceKind::Exec { command: shell(script), once, lines };
    let settings = SourceSettings {
        preview: None,
        stream: "room".parse().unwrap(),
        retention: Retention::default(),
        delay: Declared::default(),
        kind,
    };
    AnySource::new(&settings, BootClock, &DomainNumbers::from_reserved(1)).0
}

async fn next(source: &mut AnySource<BootClock>) -> Result<SourceEvent, SourceError> {
    tokio::time::timeout(Duration::from_secs(30), source.next()).await.expect("an event in time")
}

fn is_reading(event: &Result<SourceEvent, SourceError>) -> bool {
    matches!(event, Ok(SourceEvent::Reading { .. }))
}

#[tokio::test]
async fn a_program_that_runs_once_ends_its_source_and_keeps_its_last_line() {
    let mut source = exec("printf '1\\n2\\n3'", true);
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Stream { .. })));
    for _ in 0..3 {
        assert!(is_reading(&next(&mut source).await));
    }
    assert_eq!(next(&mut source).await, Err(SourceError::Ended));
    assert_eq!(next(&mut source).await, Err(SourceError::Ended), "always that error");
}

#[tokio::test]
async fn a_program_that_ends_is_started_again() {
    let mut source = exec("echo 1", false);
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Stream { .. })));
    assert!(is_reading(&next(&mut source).await));
    assert!(is_reading(&next(&mut source).await));
}

/// True while any process of that id runs.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    state.is_some_and(|state| state != "Z")
}

#[tokio::test]
async fn what_a_program_started_ends_with_its_source() {
    let mut source = exec("sleep 600 & echo $!; wait", false);
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Stream { .. })));
    let Ok(SourceEvent::Reading { reading, .. }) = next(&mut source).await else { panic!("a reading") };
    let headwater_core::sample::Value::I64(pid) = reading.values[0] else { panic!("a pid") };
    assert!(lives(&pid.to_string()));
    source.close().await;
    drop(source);
    let gone = async {
        while lives(&pid.to_string()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the grandchild is gone");
}

#[tokio::test]
async fn a_film_is_split_into_pictures_and_its_cut_end_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut film = image::samples::jpeg().repeat(3);
    film.extend_from_slice(&image::samples::jpeg()[..50]);
    std::fs::write(dir.path().join("film"), film).unwrap();
    let command =
        CommandLine { program: "cat".into(), args: vec![dir.path().join("film").display().to_string()] };
    let kind = SourceKind::CameraCommand { command, stamps: None };
    let settings = SourceSettings {
        preview: None,
        stream: "camera/rear".parse().unwrap(),
        retention: Retention::default(),
        delay: Declared::default(),
        kind,
    };
    let mut source = AnySource::new(&settings, BootClock, &DomainNumbers::from_reserved(1)).0;
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Stream { .. })));
    for _ in 0..3 {
        assert!(is_reading(&next(&mut source).await));
    }
    assert!(
        matches!(next(&mut source).await, Ok(SourceEvent::SetAside { why, .. }) if why.contains("cut off"))
    );
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Lost { rows: 1, .. })));
    assert!(is_reading(&next(&mut source).await), "the next run of the program");
}

/// A stand-in for `rpicam-vid`: a frame on its output, then what it says of it, as the program writes them.
#[tokio::test]
async fn a_program_says_when_its_frames_were_exposed() {
    use crate::config::FrameStamps;
    use headwater_core::ports::Clock;
    use headwater_core::time::StampKind;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("frame"), image::samples::jpeg()).unwrap();
    let frame = dir.path().join("frame").display().to_string();
    let script = |exposed: i64| {
        format!(
            "cat {frame}; printf '{{\\n    \"SensorTimestamp\": {exposed},\\n    \"ExposureTime\": 4000\\n' > $0; \
             exec sleep 600"
        )
    };
    let taken = |exposed: i64| {
        let args = vec!["-c".into(), script(exposed), STAMPS_PLACE.into()];
        let command = CommandLine { program: "sh".into(), args };
        let kind = SourceKind::CameraCommand { command, stamps: Some(FrameStamps::Rpicam) };
        let (preview, retention, delay) = (None, Retention::default(), Declared::default());
        let settings =
            SourceSettings { preview, stream: "camera/rear".parse().unwrap(), retention, delay, kind };
        AnySource::new(&settings, BootClock, &DomainNumbers::from_reserved(1)).0
    };
    let exposed = BootClock.boot().0 - 50_000_000 - asleep_ns();
    let mut source = taken(exposed);
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Stream { .. })));
    let Ok(SourceEvent::Reading { reading, .. }) = next(&mut source).await else { panic!("a picture") };
    assert_eq!(reading.kind, StampKind::ExposureMid);
    // Half a frame of unknown length, and half the exposure, after its start at the latest. (The offset is read anew.)
    let after = reading.t.0 - exposed - asleep_ns();
    assert!((after - 52_000_000).abs() < 1_000_000, "{after}");
    // One that cannot be: stamped by arrival, and counted.
    let refused = || crate::telemetry::counts().get("camera_stamps_refused").copied().unwrap_or(0);
    let before = refused();
    let mut source = taken(exposed + 3_600_000_000_000);
    assert!(matches!(next(&mut source).await, Ok(SourceEvent::Stream { .. })));
    let Ok(SourceEvent::Reading { reading, .. }) = next(&mut source).await else { panic!("a picture") };
    assert_eq!((reading.kind, reading.latency.lo_ns), (StampKind::Arrival, 0));
    assert!(reading.latency.hi_ns >= 500_000_000 && refused() > before);
}
