//! A lake that lives: a simulated day of a fleet, with everything that happens to a lake meanwhile.

mod actors;
mod correct;
mod day;
mod keeper;
mod truth;

use day::{Day, Shape};

const HOUR_S: i64 = 3_600;

/// A part of a day that crosses midnight, at the default cadence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_a_fleet_leaves_every_row_once() {
    let tally = Day::new(Shape { seconds: HOUR_S, devices: 4 }).await.live().await;
    println!("{tally:?}");
}

/// The whole day: `cargo test --release -p headwater-tests --test lake -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo test --release -p headwater-tests --test lake -- --ignored --nocapture"]
async fn a_day_of_a_fleet_leaves_every_row_once() {
    let tally = Day::new(Shape { seconds: 24 * HOUR_S, devices: 20 }).await.live().await;
    println!("{tally:?}");
}
