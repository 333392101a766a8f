//! kill -9 at random moments: of the agent, of an external broker, of the collector.

use crate::setup::{Run, assert_whole};
use headwater_tests::fleet::Broker;
use std::time::Duration;

/// Kills of each process.
const ROUNDS: u32 = 10;

/// xorshift64*: moments of kills, from a seed that a failure prints.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }
}

#[test]
fn ten_kills_of_agent_mosquitto_and_collector_lose_and_double_nothing() {
    let seed = 0x4845_4144_5741_5445;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut run = Run::start(Broker::Mosquitto);
    run.wait_for_first_commit();
    for round in 0..ROUNDS {
        for victim in ["agent", "broker", "collector"] {
            std::thread::sleep(Duration::from_millis(300 + random.below(1_500)));
            run.fleet.check().unwrap_or_else(|e| panic!("round {round}: {e}\n{}", run.logs()));
            run.fleet.kill(victim).unwrap();
            std::thread::sleep(Duration::from_millis(random.below(400)));
            run.fleet.restart(victim).unwrap();
        }
    }
    let figures = run.finish();
    println!("{figures:#?}");
    assert_whole(&figures);
    assert!(figures.gaps_recorded > 0, "the noise burst and the broken picture are recorded gaps");
}

#[test]
fn a_collector_restarted_behind_a_living_broker_asks_for_a_hello_and_goes_on() {
    let mut run = Run::start(Broker::Embedded);
    run.wait_for_first_commit();
    let before = run.status().unwrap();
    run.fleet.kill_and_restart("collector").unwrap();
    let later = headwater_tests::ticks::wait_until(Duration::from_secs(60), || {
        run.status().is_some_and(|s| {
            s.incarnation().is_some()
                && s.incarnation() != before.incarnation()
                && s.acked_rows() > before.acked_rows()
        })
    });
    assert!(later, "no acks from the new incarnation: {:?}\n{}", run.status(), run.logs());
    let figures = run.finish();
    assert_whole(&figures);
    assert!(figures.aligned_rows > 0, "{figures:#?}");
}
