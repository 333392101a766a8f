//! A folder in which pictures appear, half and whole, and a spool that takes its time.

use super::super::image::samples;
use super::*;
use crate::clock::BootClock;
use headwater_core::sample::Value;
use headwater_core::time::UtcNanos;
use headwater_sim::clock::SimClock;
use std::path::Path;
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
    source: CameraDirSource<BootClock>,
    receipts: mpsc::Sender<Receipt>,
    number: u64,
}

impl World {
    fn new(after: After) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), after)
    }

    fn in_dir(dir: tempfile::TempDir, after: After) -> Self {
        let (source, receipts) = CameraDirSource::new(
            BootClock,
            "camera/front".parse().unwrap(),
            Latency::at_most_ms(2_000),
            dir.path().to_owned(),
            after,
        );
        Self { dir, source, receipts, number: 0 }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    async fn next(&mut self) -> (u64, SourceEvent) {
        let event = tokio::time::timeout(Duration::from_secs(30), self.source.next()).await;
        let number = self.number;
        self.number += 1;
        (number, event.expect("an event in time").expect("a source that goes on"))
    }

    async fn picture(&mut self) -> (u64, String) {
        match self.next().await {
            (number, SourceEvent::Reading { reading, .. }) => {
                assert!(reading.blob.is_some());
                let Value::Utf8(name) = &reading.values[4] else { panic!("a name") };
                (number, name.clone())
            }
            other => panic!("expected a picture, found {other:?}"),
        }
    }

    async fn receipt(&self, event: u64, captured: bool) {
        self.receipts.send(Receipt { event, captured }).await.unwrap();
    }
}

#[tokio::test]
async fn pictures_found_at_start_come_in_the_order_of_names_and_go_when_captured() {
    let mut world = World::new(After::Delete);
    for name in ["b.jpg", "a.jpg", "note.txt", ".hidden.jpg"] {
        std::fs::write(world.path().join(name), samples::jpeg()).unwrap();
    }
    assert!(matches!(world.next().await.1, SourceEvent::Stream { .. }));
    let (first, name) = world.picture().await;
    assert_eq!(name, "a.jpg");
    assert!(world.path().join("a.jpg").exists(), "never removed before it is captured");
    assert_eq!(world.picture().await.1, "b.jpg");
    world.receipt(first, true).await;
    // The next event drives the source over the receipt.
    std::fs::write(world.path().join("c.png"), samples::png()).unwrap();
    assert_eq!(world.picture().await.1, "c.png");
    assert!(!world.path().join("a.jpg").exists());
    assert!(world.path().join("b.jpg").exists() && world.path().join("note.txt").exists());
}

/// The file system says today, the clock says 1970: no age can be had from that, and none before this boot is claimed.
#[tokio::test]
async fn a_picture_found_at_start_under_a_clock_of_1970_is_stamped_when_it_was_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.jpg"), samples::jpeg()).unwrap();
    let started = BootNanos(10_000_000_000);
    let clock = SimClock::new(started, UtcNanos(7_000_000_000));
    let (stream, latency) = ("camera/front".parse().unwrap(), Latency::at_most_ms(2_000));
    let (mut source, _receipts) =
        CameraDirSource::new(clock.clone(), stream, latency, dir.path().to_owned(), After::Delete);
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), source.next()).await;
        match event.expect("an event in time").expect("a source that goes on") {
            SourceEvent::Stream { .. } => {}
            SourceEvent::Reading { reading, .. } => {
                assert!(started <= reading.t && reading.t <= clock.boot(), "{:?}", reading.t);
                return assert_eq!(reading.latency, latency);
            }
            other => panic!("expected a picture, found {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_picture_moved_in_is_taken_and_one_that_is_none_is_set_aside_as_a_gap() {
    let mut world = World::new(After::Keep);
    let outside = tempfile::tempdir_in(world.path().parent().unwrap()).unwrap();
    assert!(matches!(world.next().await.1, SourceEvent::Stream { .. }));
    std::fs::write(outside.path().join("x"), samples::jpeg()).unwrap();
    // Opens the watch first: what is there at start takes another way.
    std::fs::write(world.path().join("first.jpg"), samples::jpeg()).unwrap();
    let (first, _) = world.picture().await;
    std::fs::rename(outside.path().join("x"), world.path().join("moved.jpg")).unwrap();
    assert_eq!(world.picture().await.1, "moved.jpg");

    let half = &samples::jpeg()[..40];
    std::fs::write(world.path().join("half.jpg"), half).unwrap();
    let (_, aside) = world.next().await;
    assert!(
        matches!(&aside, SourceEvent::SetAside { why, bytes, .. } if why.contains("half.jpg") && bytes == half)
    );
    let (lost, event) = world.next().await;
    assert!(matches!(event, SourceEvent::Lost { rows: 1, cause: GapCause::RejectedQuarantine, .. }));
    world.receipt(first, true).await;
    world.receipt(lost, true).await;
    std::fs::write(world.path().join("z.jpg"), samples::jpeg()).unwrap();
    world.picture().await;
    assert!(world.path().join("done/first.jpg").exists(), "kept");
    assert!(!world.path().join("half.jpg").exists(), "its bytes are in quarantine, its gap on disk");
}

#[tokio::test]
async fn a_shed_picture_is_offered_again_and_one_that_was_rewritten_is_not_removed() {
    let mut world = World::new(After::Delete);
    std::fs::write(world.path().join("a.jpg"), samples::jpeg()).unwrap();
    assert!(matches!(world.next().await.1, SourceEvent::Stream { .. }));
    let (first, _) = world.picture().await;
    world.receipt(first, false).await;
    let (second, name) = world.picture().await;
    assert_eq!(name, "a.jpg");
    let mut other = samples::jpeg();
    other.push(0);
    std::fs::write(world.path().join("a.jpg"), &other).unwrap();
    world.receipt(second, true).await;
    let (third, name) = world.picture().await;
    assert_eq!(name, "a.jpg", "its new content is another picture");
    world.receipt(third, true).await;
    std::fs::write(world.path().join("b.jpg"), samples::jpeg()).unwrap();
    world.picture().await;
    assert!(!world.path().join("a.jpg").exists());
}

#[tokio::test]
async fn memory_is_bounded_and_the_rest_waits_as_files() {
    let mut world = World::new(After::Delete);
    for n in 0..IN_FLIGHT_MAX + 3 {
        std::fs::write(world.path().join(format!("{n}.jpg")), samples::jpeg()).unwrap();
    }
    assert!(matches!(world.next().await.1, SourceEvent::Stream { .. }));
    let mut numbers = Vec::new();
    for _ in 0..IN_FLIGHT_MAX {
        numbers.push(world.picture().await.0);
    }
    let more = tokio::time::timeout(Duration::from_millis(50), world.source.next()).await;
    assert!(more.is_err(), "no more before a receipt");
    world.receipt(numbers[0], true).await;
    assert_eq!(world.picture().await.1, format!("{IN_FLIGHT_MAX}.jpg"));
}

#[tokio::test]
async fn the_end_waits_for_receipts_of_what_was_handed_on() {
    let mut world = World::new(After::Delete);
    std::fs::write(world.path().join("a.jpg"), samples::jpeg()).unwrap();
    assert!(matches!(world.next().await.1, SourceEvent::Stream { .. }));
    let (number, _) = world.picture().await;
    world.receipt(number, true).await;
    world.source.close().await;
    assert!(!world.path().join("a.jpg").exists());
}
