//! What the pool looks like from outside.

use super::CreditPool;
use crate::receive::reassemble::DeviceEpoch;
use headwater_core::wire::WaitReason;

/// What the pool did since the start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreditCounters {
    /// Bytes written off: granted, and not used at the pace of their device.
    pub written_off: u64,
    /// Bytes of those that came after all.
    pub late: u64,
    /// Bytes that came without any grant.
    pub unasked: u64,
}

/// What the pool looks like, for metrics and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CreditState {
    /// Granted and not arrived, bytes.
    pub charged: u64,
    /// The most of that there ever was.
    pub peak: u64,
    /// What it may be now, bytes.
    pub limit: u64,
    /// Devices in turn for more.
    pub waiting: u64,
    /// Devices over a quota.
    pub over_quota: u64,
    /// Counts since the start.
    pub counters: CreditCounters,
}

impl CreditPool {
    /// The pool as it is.
    #[must_use]
    pub fn state(&self) -> CreditState {
        CreditState {
            charged: self.charged,
            peak: self.peak,
            limit: self.limit,
            waiting: self.large.len() as u64,
            over_quota: self.over.len() as u64,
            counters: self.counters,
        }
    }

    /// Devices over their quota: why, and bytes today where those are counted. At most `limit` of them.
    #[must_use]
    pub fn over_quota(&self, limit: usize) -> Vec<(DeviceEpoch, WaitReason, Option<u64>)> {
        let over = self.over.iter().filter_map(|(_, owner)| {
            let reason = self.accounts.get(owner)?.over?;
            Some((owner.clone(), reason, self.quotas.device_bytes_today(&owner.0)))
        });
        over.take(limit).collect()
    }

    /// Why a device waits, if it does.
    #[must_use]
    pub fn reason(&self, owner: &DeviceEpoch) -> Option<WaitReason> {
        let account = self.accounts.get(owner)?;
        account.waits().then(|| account.over.unwrap_or(WaitReason::Turn))
    }
}
