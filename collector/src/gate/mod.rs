//! Gate: no aligned row is published without a passing verdict (G1).
//!
//! ```text
//! window ─► rules (headwater-align) ─► staging branch wap/<id> ─► hooks ─► pass: published │ fail: quarantine/<id>
//! ```
//! Pure checks over a window of aligned rows, each with a verdict and the numbers behind it, and people's own checks of
//! the rows as staged. They judge `aligned.*` only: raw rows were admitted before, and go on whatever is found here.

mod again;
pub mod boots;
pub mod guard;
pub mod held;
pub mod hook;
pub mod looking;
pub mod picture;
mod rules;
mod settings;
pub mod waive;

/// Staging branches lie below this.
pub(crate) const WAP: &str = "wap";
/// Failed candidates lie below this.
pub(crate) const QUARANTINE: &str = "quarantine";

pub use again::{AGAIN_MS_MAX, AGAIN_MS_MIN, Again};
pub use headwater_align::gate::RuleSet;
pub use rules::{Asked, GATE_VERSION, Judged, Verdict, builtin_rules, by, decodes, held, judge, worst};
pub use settings::{
    GateLimits, GateMode, GateSettings, HOOK_TIMEOUT_S, HOOK_TIMEOUT_S_MAX, HOOKS_MAX, Hook, HookCall, KEEP,
    WebhookCall,
};
