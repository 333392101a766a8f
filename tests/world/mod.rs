//! The simulated world: from one seed gateways, a broker, a collector, their disks and clocks, and what goes wrong between
//! them; and an oracle that knows what must be true all the same.
//!
//! Real are the agent's shipping loop, its batches and its spool, the collector's receiver, its landing log and the fold of
//! ingest. Simulated are time, disks, the network with its broker, and the lake. A world is a function of its seed: the
//! same seed gives the same world, byte for byte.
//!
//! | module | holds |
//! |---|---|
//! | `plan` | what a seed stands for: how the world is made, what goes wrong and when |
//! | `director` | lets it happen |
//! | `gateway`, `card`, `link` | the agent on its card |
//! | `collector` | receiver, landing log, fold, with a place to crash between any two steps |
//! | `bind` | the only place that names how agent and collector are put together |
//! | `oracle` | A1, S1, D1, D2, liveness |
//! | `loops` | how much may be connected and sent |
//! | `mutant` | mistakes that the oracle must find |
//! | `soak` | many seeds on all cores |

mod bind;
mod card;
mod collector;
mod director;
mod fleet;
mod gateway;
mod link;
mod loops;
mod mutant;
mod oracle;
mod outcome;
mod plan;
mod rows;
mod soak;

pub use mutant::Mutant;
pub use outcome::Outcome;
pub use plan::{Fault, Plan, Scale, Shape, What};
pub use soak::{Failure, Soak, Tally, report, shrunk};

use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, NS_PER_MS};
use headwater_sim::clock::SimClock;

/// UTC at the start of every world: inside every certificate's validity, and what builds know as their time floor.
const START_UTC_NS: i64 = 1_790_000_000_000_000_000;

/// Boot time of the world at its start, ns.
const START_BOOT_NS: i64 = 5_000_000_000;

/// How long the world has lasted, simulated ms.
fn world_ms(clock: &SimClock) -> u64 {
    u64::try_from(clock.boot().since(BootNanos(START_BOOT_NS)) / NS_PER_MS).unwrap_or(0)
}

/// Lets the world of a plan happen.
///
/// # Panics
/// If the system gives no runtime, or an invariant of the product is broken.
#[must_use]
pub fn happen(plan: &Plan, mutant: Option<Mutant>, trace: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO can always be made");
    runtime.block_on(director::direct(plan, mutant, trace))
}
