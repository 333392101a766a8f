//! The shell around the receiver, driven by a fake inbox.

use super::*;
use crate::land::tests::FaultDisk;
use crate::land::{LandingCursors, LandingReader, StdDisk};
use crate::receive::testkit::{Ca, Device, number_rows, numbers};
use crate::receive::{ReceiverIdentity, clock::SystemClock};
use headwater_core::id::{IncarnationId, Seq};
use headwater_core::ports::Delivery;
use headwater_core::time::{Grade, UtcNanos};
use headwater_core::wire::{Ack, Envelope};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// The broker's end as three channels.
struct ChannelInbox {
    deliveries: mpsc::Receiver<Delivery>,
    settled: mpsc::Sender<u64>,
    sent: mpsc::Sender<(String, Vec<u8>)>,
}

impl Inbox for ChannelInbox {
    async fn next(&mut self) -> Delivery {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            None => std::future::pending().await,
        }
    }
    async fn settle(&mut self, token: u64) {
        self.settled.send(token).await.unwrap();
    }
    async fn send(&mut self, topic: &str, payload: Vec<u8>) {
        // A test that has seen enough stops listening.
        drop(self.sent.send((topic.to_owned(), payload)).await);
    }
}

struct Stage {
    deliveries: mpsc::Sender<Delivery>,
    settled: mpsc::Receiver<u64>,
    sent: mpsc::Receiver<(String, Vec<u8>)>,
    landed: watch::Receiver<LandingPosition>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), ReceiveError>>,
    device: Device,
    next_token: u64,
}

impl Stage {
    #[expect(clippy::disallowed_methods, reason = "the test waits for the task it spawns")]
    fn start(folder: &Path, disk: FaultDisk) -> Self {
        let ca = Ca::new();
        let (key, chain) = ca.collector();
        let incarnation = IncarnationId([1; 16]);
        let key = std::sync::Arc::new(key.into());
        let identity = ReceiverIdentity { incarnation, key, chain, software: "test".into() };
        let receiver = Receiver::new(ca.admission(), identity, &CommitMark::default());
        let log = Log::create(disk, folder, "hq", incarnation, 1, UtcNanos(0)).unwrap();
        let (deliveries, to_take) = mpsc::channel(256);
        let (settle, settled) = mpsc::channel(256);
        let (send, sent) = mpsc::channel(256);
        let (landed_tx, landed) = watch::channel(log.end());
        let (_, commits) = watch::channel(CommitMark::default());
        let cancel = CancellationToken::new();
        let task = ReceiveTask {
            inbox: ChannelInbox { deliveries: to_take, settled: settle, sent: send },
            clock: SystemClock,
            log,
            receiver,
            sync_ms: 1,
            quality: QualitySource::declared(1, Grade::Estimated, 1),
            landed: landed_tx,
            commits,
            credit: watch::channel(CreditBoard::default()).0,
            others: None,
            renewals: watch::channel(None).1,
        };
        let task = tokio::spawn(task.run(cancel.clone()));
        Self { deliveries, settled, sent, landed, cancel, task, device: ca.device("pi-1"), next_token: 0 }
    }

    async fn deliver(&mut self, payload: Vec<u8>) {
        self.next_token += 1;
        let delivery = Delivery { topic: self.device.topic(), payload, token: self.next_token };
        self.deliveries.send(delivery).await.unwrap();
        assert_eq!(self.settled.recv().await, Some(self.next_token), "settled in order, before it is landed");
    }
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes in time")
}

#[tokio::test]
async fn what_was_taken_is_landed_before_the_stage_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(folder.path(), FaultDisk::default());
    within(async {
        let messages = [
            stage.device.hello(1),
            stage.device.declaration(1, "imu", &numbers()),
            stage.device.batch(vec![number_rows(1, 0, 5)]),
            b"rubbish".to_vec(),
        ];
        for message in messages {
            stage.deliver(message).await;
        }
        loop {
            let (topic, payload) = stage.sent.recv().await.unwrap();
            assert_eq!(topic, "hw/1/ack/acme/pi-1");
            let ack = Ack::from_body(Envelope::parse(&payload).unwrap().body).unwrap();
            if ack.streams.iter().any(|stream| stream.durable_upto == Seq(5)) {
                break;
            }
        }
        for first in [5, 10, 15] {
            let message = stage.device.batch(vec![number_rows(1, first, 5)]);
            stage.deliver(message).await;
        }
        stage.cancel.cancel();
        (&mut stage.task).await.unwrap().unwrap();
    })
    .await;
    let landed =
        LandingReader::new(StdDisk, folder.path()).next_after(&LandingCursors::new(), usize::MAX).unwrap();
    assert_eq!(landed.len(), 6);
    assert_eq!(landed[5].end(), *stage.landed.borrow());
}

#[tokio::test]
async fn a_disk_that_cannot_sync_ends_the_stage_and_acks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultDisk::default();
    let mut stage = Stage::start(folder.path(), disk.clone());
    within(async {
        disk.failing.store(100, Ordering::SeqCst);
        let message = stage.device.hello(1);
        stage.deliver(message).await;
        assert!(matches!((&mut stage.task).await.unwrap(), Err(ReceiveError::Land(_))));
        while let Some((_, payload)) = stage.sent.recv().await {
            let ack = Ack::from_body(Envelope::parse(&payload).unwrap().body).unwrap();
            assert!(ack.streams.is_empty());
        }
    })
    .await;
    assert_eq!(*stage.landed.borrow(), LandingPosition::start_of(IncarnationId([1; 16])));
}
