//! What the lake may hold in memory and in flight at once, in bytes: a count of files says nothing when one of them is a
//! hundred megabytes.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of one permit: fine enough that small objects do not wait for each other, few enough for a 32-bit count.
const UNIT_BYTES: usize = 64 << 10;

/// Bytes of writes under way in this process, over all lakes and waves: two full data files, or thousands of commits'
/// worth of metadata.
pub(crate) static WRITES: Budget = Budget::new(256 << 20);

/// Bytes of rows being encoded in this process: each is in memory twice meanwhile, as Arrow and as Parquet.
pub(crate) static ENCODING: Budget = Budget::new(512 << 20);

/// A number of bytes to share.
#[derive(Debug)]
pub(crate) struct Budget {
    permits: Semaphore,
    units: u32,
}

impl Budget {
    const fn new(bytes: usize) -> Budget {
        let units = bytes / UNIT_BYTES;
        assert!(units > 0 && units < u32::MAX as usize, "a budget is some units, and a u32 counts them");
        #[expect(clippy::cast_possible_truncation, reason = "checked just above")]
        Budget { permits: Semaphore::const_new(units), units: units as u32 }
    }

    /// Waits until `bytes` more may be held, until the permit is dropped. What is larger than the whole budget waits to be
    /// alone.
    pub(crate) async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units);
        // It is never closed; and if it were, nothing would be bounded but everything done.
        self.permits.acquire_many(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn bytes_wait_for_bytes_and_the_largest_goes_alone() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let small = budget.take(1).await.unwrap();
        let large = budget.take(9 * UNIT_BYTES).await.unwrap();
        assert!(budget.take(1).now_or_never().is_none());
        drop(large);
        assert!(budget.take(99 * UNIT_BYTES).now_or_never().is_none());
        drop(small);
        assert_eq!(budget.take(99 * UNIT_BYTES).await.unwrap().num_permits(), 10);
    }
}
