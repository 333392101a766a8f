//! What the pipeline starts where several processes share a landing folder: sharing the fleet, and word of commits.

use super::{PipelineError, Stages};
use crate::config::{Settings, Share};
use crate::land::{CommitMark, LandedWatch, LandingCursors, LandingReader, ShareBoard, StdDisk};
use crate::receive::clock::SystemClock;
use crate::receive::sharing::{Mode, NEWS_MAX, News, Sharing, group_filters};
use headwater_core::id::IncarnationId;
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use std::collections::BTreeSet;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Between two looks at what the ingesting process says of its commits.
const MARK_MS: u64 = 500;

/// What receiving knows of other receivers.
pub(super) struct Others {
    pub(super) filters: watch::Receiver<BTreeSet<String>>,
    pub(super) news: Option<mpsc::Receiver<News>>,
}

/// Starts sharing the fleet with other receivers, if the settings say so.
pub(super) fn share(
    settings: &Settings,
    me: IncarnationId,
    cursors: LandingCursors,
    landed: &LandedWatch,
    stages: &Stages,
) -> Others {
    let (mode, first) = match settings.receive.share {
        Share::None => {
            let all = BTreeSet::from([format!("hw/1/in/+/{}/+/+", settings.tenant)]);
            return Others { filters: watch::channel(all).1, news: None };
        }
        Share::Shards => (Mode::Shards, BTreeSet::new()),
        Share::Group => (Mode::Group, group_filters(&settings.tenant)),
    };
    let (filters_tx, filters) = watch::channel(first);
    let (news_tx, news) = mpsc::channel(NEWS_MAX);
    let sharing = Sharing {
        board: ShareBoard::new(StdDisk, &settings.landing_dir),
        reader: LandingReader::new(StdDisk, &settings.landing_dir).shared(utc_now, Some(me)),
        cursors,
        me,
        receiver: settings.client_id.clone(),
        tenant: settings.tenant.clone(),
        mode,
        landed: landed.clone(),
        filters: filters_tx,
        news: news_tx,
    };
    let cancel = stages.cancel.clone();
    stages.spawn("share", async move {
        sharing.run(SystemClock, cancel).await.map_err(|_| PipelineError::Panicked("share"))
    });
    Others { filters, news: Some(news) }
}

pub(super) fn utc_now() -> UtcNanos {
    SystemClock.read().real
}

/// Hands on what another process says of its commits.
pub(super) async fn follow_commits(
    board: ShareBoard<StdDisk>,
    marks: watch::Sender<CommitMark>,
    cancel: CancellationToken,
) {
    while !cancel.is_cancelled() {
        let look = board.clone();
        match tokio::task::spawn_blocking(move || look.mark()).await {
            Ok(Ok(Some(mark))) => {
                marks.send_if_modified(|old| {
                    *old != mark && {
                        *old = mark;
                        true
                    }
                });
            }
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "commits of the ingesting process are not to be read"),
        }
        let at = SystemClock.boot().plus_ms(MARK_MS);
        tokio::select! { () = cancel.cancelled() => {}, () = SystemClock.sleep_until(at) => {} }
    }
}

/// Tells other processes of our commits, until the last one.
pub(super) async fn tell_commits(board: ShareBoard<StdDisk>, mut marks: watch::Receiver<CommitMark>) {
    loop {
        let mark = marks.borrow_and_update().clone();
        let tell = board.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || tell.publish_mark(&mark)).await {
            tracing::warn!(%error, "receivers are not told of this commit; they are of the next");
        }
        // The committer hangs up once it has made its last commit.
        if marks.changed().await.is_err() {
            return;
        }
    }
}
