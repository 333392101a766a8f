//! Uploads in parts, of which some do not get through.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::{Fault, State, Write, lock, lost};

/// An upload whose parts may stop getting through.
#[derive(Debug)]
pub(super) struct FaultUpload {
    below: Box<dyn MultipartUpload>,
    state: Arc<Mutex<State>>,
    location: Path,
    parts: u64,
}

impl FaultUpload {
    pub(super) fn new(
        below: Box<dyn MultipartUpload>,
        state: Arc<Mutex<State>>,
        location: Path,
    ) -> FaultUpload {
        FaultUpload { below, state, location, parts: 0 }
    }

    fn is_torn(&self) -> bool {
        matches!(lock(&self.state).fault, Some(Fault::TornMultipart(parts)) if self.parts > parts)
    }
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts += 1;
        if self.is_torn() || lock(&self.state).dead {
            return futures::future::ready(Err(lost("the part did not get through"))).boxed();
        }
        self.below.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let torn = matches!(lock(&self.state).fault, Some(Fault::TornMultipart(_)));
        if torn {
            return Err(lost("the end did not get through"));
        }
        let answer = lock(&self.state).write(&self.location);
        match answer {
            Write::Pass => self.below.complete().await,
            Write::Refuse(e) => Err(e),
            Write::ApplyThen(e) => {
                self.below.complete().await?;
                Err(e)
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        if lock(&self.state).dead {
            return Err(lost("power is gone"));
        }
        self.below.abort().await
    }
}
