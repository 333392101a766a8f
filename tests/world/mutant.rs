//! Mistakes that the oracle must find: each is one a person could make, at the place where they would make it.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The collector calls records durable before its log is synced.
    AckBeforeSync,
    /// The collector calls records committed before the lake has them.
    CommitToldEarly,
    /// The collector's ledger is not read back at a start.
    LedgerForgotten,
    /// A restart reads on from where the last life was, not from what waits.
    CursorTooFar,
    /// The agent takes a PUBACK for an ack.
    TrimOnPuback,
    /// The agent does not write the spool's gap records.
    GapDropped,
    /// The agent never sends anything a second time.
    NeverResends,
    /// The spool calls rows captured before it syncs.
    SyncPutOff,
    /// The agent's link connects again by itself, at once and for ever.
    HastyReconnect,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 9] = [
        Self::AckBeforeSync,
        Self::CommitToldEarly,
        Self::LedgerForgotten,
        Self::CursorTooFar,
        Self::TrimOnPuback,
        Self::GapDropped,
        Self::NeverResends,
        Self::SyncPutOff,
        Self::HastyReconnect,
    ];
}
