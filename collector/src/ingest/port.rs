//! The landing log as ingest sees it: what comes after a set of cursors, and when there is more.

use crate::land::{LandError, Landed, LandedWatch, LandingCursors, LandingReader};
use headwater_core::ports::Disk;

/// Gives landed records. Reads are blocking; the shell calls them where that does no harm.
pub trait LandingSource: Send + 'static {
    /// Records after `cursors`, oldest incarnation first and in order within each, about `limit_bytes` of payload (at
    /// least one record, if there is one). Empty means nothing more for now. Only what is durable is given out.
    ///
    /// # Errors
    /// [`LandError`]; the same may be asked again.
    fn next_after(&mut self, cursors: &LandingCursors, limit_bytes: usize) -> Result<Vec<Landed>, LandError>;

    /// Changes whenever more was landed; none if only asking again tells.
    fn watch(&self) -> Option<LandedWatch>;
}

impl<D: Disk> LandingSource for LandingReader<D> {
    fn next_after(&mut self, cursors: &LandingCursors, limit_bytes: usize) -> Result<Vec<Landed>, LandError> {
        LandingReader::next_after(self, cursors, limit_bytes)
    }

    fn watch(&self) -> Option<LandedWatch> {
        self.landed_watch()
    }
}
