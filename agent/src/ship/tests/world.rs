//! The whole task in a simulated world: a bad network, a collector that restarts, an agent that restarts.

use super::collector::ModelCollector;
use super::fixture::{Fleet, ModelSpool, UTC, path, picture, scalar_rows, scalar_schema};
use crate::ship::policy::LinkRules;
use crate::ship::{RetainUntil, Rng, ShipSettings, ShipStatus, ShipTask, random_nonces, run};
use headwater_core::id::StreamId;
use headwater_core::ports::{Clock, Inbox, Slab, SpoolLane};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_core::wire::Topic;
use headwater_sim::clock::SimClock;
use headwater_sim::net::{SimNet, Weather};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod lanes;

struct World {
    net: SimNet,
    clock: SimClock,
    /// The gateway's: its boot time is the world's, its UTC may be wrong.
    gateway: SimClock,
    spool: ModelSpool,
    fleet: Fleet,
    collector: Arc<Mutex<ModelCollector>>,
    tasks: TaskTracker,
    end: CancellationToken,
}

struct Agent {
    cancel: CancellationToken,
    status: watch::Receiver<ShipStatus>,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        Self::new_at(BootNanos(5_000_000_000), seed, weather)
    }

    fn new_at(boot: BootNanos, seed: u64, weather: Weather) -> Self {
        let fleet = Fleet::new();
        let collector = ModelCollector::new(fleet.collector(), fleet.roots.clone());
        let spool = ModelSpool::new();
        spool.declare(1, "imu", scalar_schema(), SpoolLane::Telemetry);
        spool.declare(2, "camera/front", builtin::image(), SpoolLane::Media);
        spool.declare(3, "hw/clock", scalar_schema(), SpoolLane::Control);
        let clock = SimClock::new(boot, UTC);
        let world = Self {
            net: SimNet::new(seed, weather),
            gateway: clock.clone(),
            clock,
            spool,
            fleet,
            collector: Arc::new(Mutex::new(collector)),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        };
        world.start_collector();
        world
    }

    fn start_collector(&self) {
        let (mut inbox, collector, clock) =
            (self.net.inbox(), Arc::clone(&self.collector), self.clock.clone());
        let end = self.end.clone();
        let ack_topic = Topic::Ack(path()).to_string();
        self.tasks.spawn(async move {
            let mut ack_at = clock.boot().plus_ms(200);
            let mut n = 0_u64;
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    delivery = inbox.next() => {
                        collector.lock().unwrap().receive(&delivery.topic, &delivery.payload, clock.utc().0);
                        inbox.settle(delivery.token).await;
                    }
                    () = clock.sleep_until(ack_at) => {
                        ack_at = clock.boot().plus_ms(200);
                        n += 1;
                        let ack = {
                            let mut collector = collector.lock().unwrap();
                            if n.is_multiple_of(10) {
                                collector.commit();
                            }
                            collector.ack(clock.utc().0)
                        };
                        inbox.send(&ack_topic, ack).await;
                    }
                }
            }
        });
    }

    fn start_agent(&self, settings: ShipSettings) -> Agent {
        self.start_agent_under(settings, Vec::new())
    }

    fn start_agent_under(&self, settings: ShipSettings, rules: Vec<LinkRules>) -> Agent {
        let (gaps, mut gap_rows) = mpsc::channel(64);
        let (exchanges, mut exchange_rows) = mpsc::channel(64);
        self.tasks.spawn(async move { while gap_rows.recv().await.is_some() {} });
        self.tasks.spawn(async move { while exchange_rows.recv().await.is_some() {} });
        let (status, shown) = watch::channel(ShipStatus::default());
        let cancel = CancellationToken::new();
        let task = ShipTask {
            rules,
            clock: self.gateway.clone(),
            uplink: self.net.uplink(),
            spool: self.spool.clone(),
            settings,
            identity: self.fleet.device(),
            cert_time: UTC.into(),
            renewals: mpsc::channel(1).1,
            revoked: mpsc::channel(1).0,
            floor: watch::channel(UTC).0,
            rng: Rng::new(1),
            nonces: random_nonces(),
            gaps,
            exchanges,
            status,
            cancel: cancel.clone(),
        };
        Agent { cancel, status: shown, task: self.tasks.spawn(run(task)) }
    }

    /// `seconds` of captures: 200 Hz scalars, a clock row, and a picture each third second.
    fn capture(&self, first_second: u64, seconds: u64) {
        for second in first_second..first_second + seconds {
            self.spool.append(Slab {
                rows: scalar_rows(1, second * 200..(second + 1) * 200),
                blob: None,
                arrived: None,
            });
            self.spool.append(Slab { rows: scalar_rows(3, second..second + 1), blob: None, arrived: None });
            if second.is_multiple_of(3) {
                self.spool.append(picture(2, second / 3, 60_000 + 9_000 * usize::try_from(second).unwrap()));
            }
        }
        self.spool.sync();
    }

    /// Waits, in simulated time, until everything was released.
    async fn drained(&self, limit_s: u64) -> bool {
        let until = self.clock.boot().plus_ms(limit_s * 1_000);
        while self.spool.rows_held() > 0 {
            if self.clock.boot() >= until {
                return false;
            }
            self.clock.sleep_until(self.clock.boot().plus_ms(500)).await;
        }
        true
    }

    async fn stop(self, agent: Agent) -> ShipStatus {
        agent.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(10), agent.task).await.expect("ends in time").unwrap();
        self.end.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await.expect("no task is left");
        agent.status.borrow().clone()
    }

    /// The collector holds exactly the source.
    fn check_landed(&self, seconds: u64) {
        let collector = self.collector.lock().unwrap();
        let rows = &collector.landing.rows;
        let pictures = seconds.div_ceil(3);
        assert_eq!(rows.len() as u64, seconds * 200 + seconds + pictures);
        assert_eq!(collector.landing.blobs.len() as u64, pictures);
        for ((stream, seq), row) in rows {
            if *stream != StreamId(2) {
                assert!(row.same_bits(&scalar_rows(stream.0, *seq..*seq + 1)), "{stream:?} {seq}");
            }
        }
    }
}

fn paused<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn fair_weather_ships_everything_once() {
    paused(async {
        let world = World::new(1, Weather::FAIR);
        let agent = world.start_agent(ShipSettings::default());
        world.capture(0, 20);
        assert!(world.drained(60).await);
        world.check_landed(20);
        assert_eq!(world.collector.lock().unwrap().landing.doubles, 0);
        let status = agent.status.borrow().clone();
        assert!(status.connected && status.last_commit.is_some() && status.incarnation.is_some());
        assert_eq!((status.counters.resends, status.counters.acks_rejected), (0, 0), "{status:?}");
        let traffic = world.net.traffic();
        let status = world.stop(agent).await;
        assert!(status.counters.bytes_sent > traffic.up_bytes);
        assert!(!status.connected);
    });
}

/// Power-on without a battery: the collector's certificate begins in 1975, and its acks count all the same.
#[test]
fn a_gateway_that_wakes_in_1970_ships_everything_once() {
    paused(async {
        let mut world = World::new(1, Weather::FAIR);
        world.gateway = SimClock::new(world.clock.boot(), UtcNanos(7_000_000_000));
        let agent = world.start_agent(ShipSettings::default());
        world.capture(0, 20);
        assert!(world.drained(60).await);
        world.check_landed(20);
        let status = world.stop(agent).await;
        assert_eq!((status.counters.resends, status.counters.acks_rejected), (0, 0), "{status:?}");
    });
}

#[test]
fn an_agent_without_a_broker_waits_and_ends_when_told() {
    paused(async {
        let world = World::new(1, Weather { refuse: 1_000, ..Weather::FAIR });
        let agent = world.start_agent(ShipSettings::default());
        world.capture(0, 2);
        assert!(!world.drained(3_600).await);
        let status = world.stop(agent).await;
        // Full jitter up to 300 s: an hour sees some 24 tries, not thousands.
        assert!((8..100).contains(&status.counters.connect_failures), "{status:?}");
    });
}

#[test]
fn rebatch_is_harmless() {
    paused(async {
        let world = World::new(5, Weather { loss: 100, ..Weather::FAIR });
        for (n, limit) in [96 * 1024, 20 * 1024, 50 * 1024].into_iter().enumerate() {
            world.capture(n as u64 * 6, 6);
            let settings =
                ShipSettings { message_bytes_max: limit, linger_ms: 10, ..ShipSettings::default() };
            let agent = world.start_agent(settings);
            // Killed between publish and ack, without its flush.
            world.clock.sleep_until(world.clock.boot().plus_ms(600)).await;
            agent.task.abort();
            assert!(agent.task.await.unwrap_err().is_cancelled());
        }
        let agent = world.start_agent(ShipSettings::default());
        assert!(world.drained(600).await);
        world.check_landed(18);
        assert!(world.collector.lock().unwrap().landing.doubles > 0, "something was cut anew");
        world.stop(agent).await;
    });
}

#[test]
fn the_broker_limit_falls_while_connected_elsewhere() {
    paused(async {
        let world = World::new(9, Weather::FAIR);
        let agent = world.start_agent(ShipSettings { linger_ms: 0, ..ShipSettings::default() });
        world.capture(0, 9);
        world.clock.sleep_until(world.clock.boot().plus_ms(120)).await;
        world.net.set_weather(Weather { payload_bytes_max: 24 * 1024, ..Weather::FAIR });
        world.net.cut();
        assert!(world.drained(300).await);
        world.check_landed(9);
        let status = world.stop(agent).await;
        assert!(status.counters.reconnects >= 1 && status.counters.withheld == 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_row_lands_exactly_once_and_all_is_trimmed_in_any_weather(
        seed: u64,
        loss in 0_u32..250,
        duplicate in 0_u32..250,
        cut in 0_u32..40,
        refuse in 0_u32..400,
        delay_max in 6_u64..400,
        restarts in proptest::collection::vec(1_u64..20, 0..3),
        durable: bool,
        message_bytes_max in 12_000_usize..98_304,
    ) {
        paused(async {
            let weather = Weather { loss, duplicate, cut, refuse, delay_ms: 5..=delay_max, ..Weather::FAIR };
            let world = World::new(seed, weather);
            let retain_until = if durable { RetainUntil::Durable } else { RetainUntil::Committed };
            let settings = ShipSettings { retain_until, message_bytes_max, ..ShipSettings::default() };
            let agent = world.start_agent(settings);
            for second in 0..12 {
                world.capture(second, 1);
                world.clock.sleep_until(world.clock.boot().plus_ms(1_000)).await;
                if restarts.contains(&second) {
                    world.collector.lock().unwrap().restart();
                }
            }
            let all = world.drained(6 * 3_600).await;
            assert!(all, "{} rows left: {:?}", world.spool.rows_held(), agent.status.borrow());
            world.check_landed(12);
            world.stop(agent).await;
        });
    }
}
