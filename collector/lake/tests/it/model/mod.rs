//! The lake as a whole against a plain map: random verbs by several writers, with stores that lose answers, refuse, go
//! silent and lose power, and after each verb every ref holds what the map says (C1, C2, C3).
//!
//! A verb that answered is there; one that failed is not; one whose outcome is unknown is there whole or not at all. At
//! the end every commit that ever was reads as it did when it was made.
//!
//! More cases: `HEADWATER_MODEL_CASES=10000 cargo test -p headwater-lake --test it model::`.

mod ops;
mod rows;
mod verbs;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ops::Op;
use proptest::collection::vec;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use world::{Tally, World};

/// Cases of an ordinary run.
const CASES: u32 = 300;
/// Verbs of a case.
const OPS_MAX: usize = 16;

fn cases() -> u32 {
    match std::env::var("HEADWATER_MODEL_CASES") {
        Ok(count) => count.parse().expect("HEADWATER_MODEL_CASES is a number of cases"),
        Err(_) => CASES,
    }
}

/// Threads that share the cases.
const THREADS: u32 = 2;

#[test]
fn the_lake_is_a_map_of_refs_whatever_fails() {
    let (cases, mut tally) = (cases(), Tally::default());
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(move || run(cases.div_ceil(THREADS)))).collect();
        for thread in threads {
            tally.add(&thread.join().expect("a failed case is told above"));
        }
    });
    println!("{cases} cases: {tally:?}");
    tally.expect_all(cases);
}

fn run(cases: u32) -> Tally {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tally = RefCell::new(Tally::default());
    let outcome = TestRunner::new(config).run(&vec(ops::op(), 3..OPS_MAX), |ops| {
        let one = catch_unwind(AssertUnwindSafe(|| runtime.block_on(happen(&ops))));
        match one {
            Ok(one) => {
                tally.borrow_mut().add(&one);
                Ok(())
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(TestCaseError::fail(text.unwrap_or_default()))
            }
        }
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    tally.into_inner()
}

async fn happen(ops: &[Op]) -> Tally {
    let mut world = World::new().await;
    // Every other case begins with all branches, so that they have much to do with each other.
    if ops.len().is_multiple_of(2) {
        for op in ops::beginning() {
            world.apply(&op).await;
        }
    }
    for op in ops {
        world.apply(op).await;
    }
    world.finish().await
}
