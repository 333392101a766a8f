//! Versions at work: what changed, and how lines of history are joined, undone and set back.
//!
//! Every verb works on commits and file lists only. Data files are written anew in one case, when a merge or a
//! cherry-pick would bring a key twice; nothing is ever deleted. What a verb costs grows with what changed, and with the
//! commits it has to walk, never with the age of the lake.
//!
//! | module | holds |
//! |---|---|
//! | [`walk`] | ancestors: log with all parents, merge base, and where kept history ends |
//! | [`diff`] | two commits, table by table and file by file |
//! | [`added`] | rows of the files one commit has and another has not |
//! | [`files`] | live files of a table, and what two states differ in |
//! | [`keys`] | which samples a set of files holds, by (device, epoch, stream, seq) |
//! | [`ledger`] | rows of `ops.ledger` for samples that leave a ref or come back |
//! | [`coverage`] | what recipes have finished, compared and cut |
//! | [`three_way`] | one table changed on both sides: the decision, without I/O |
//! | [`side`] | what one side did to a table since the base, with its compactions undone where that helps |
//! | [`change`] | a table's next state from a list of files that come and go |
//! | [`merge`], [`pick`], [`revert`], [`rollback`] | the verbs |

mod added;
mod books;
mod change;
mod coverage;
mod diff;
mod files;
mod keys;
mod ledger;
mod merge;
mod names;
mod pick;
mod report;
mod revert;
mod rollback;
mod rows;
mod side;
mod step;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
mod three_way;
mod verb;
pub(crate) mod walk;

pub use diff::{CommitDiff, FileChange, SchemaDiff, TableDiff};
pub use merge::{Joined, MergeOptions, Merged};
pub use pick::Picked;
pub use report::{ConflictReport, Strategies, Strategy, TableConflict};
pub use rollback::{Leaving, RollbackOptions};
pub use verb::By;
pub use walk::LogEntry;
