//! `headwater watch`: the log of a ref as JSON lines, resumed exactly.

use crate::events::{kind_of, to_json};
use crate::query::QueryError;
use headwater_lake::{Event, Lake, LakeError, RefName};
use std::io::Write;
use std::time::Duration;

/// Between two looks at the log when something has just happened, ms.
const POLL_MS_MIN: u64 = 200;
/// Between two looks when it has been quiet, or the store fails, ms.
const POLL_MS_MAX: u64 = 5_000;

#[derive(Debug, clap::Args)]
pub(in crate::query) struct WatchArgs {
    /// Branch or other ref.
    #[arg(default_value = "main")]
    name: String,
    /// Only entries after this: a number (`seq` of an event), or a commit that was the ref's head. Left out: all that
    /// are kept, or with --follow those to come.
    #[arg(long, value_name = "COMMIT|SEQ")]
    since: Option<String>,
    /// Only commits of these kinds: ingest, align, compact, merge, …; delete for the end of the ref.
    #[arg(long = "kind", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Goes on with what comes.
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run<W: Write>(lake: &Lake, args: &WatchArgs, out: &mut W) -> Result<(), QueryError> {
    let name = RefName::new(args.name.as_str()).map_err(LakeError::from)?;
    let mut after = match &args.since {
        Some(since) => start(lake, &name, since).await?,
        None if args.follow => lake.head(&name).await?.map_or(0, |head| head.seq),
        None => match lake.events(&name, 0).await {
            // Nothing was asked for by number, so it begins with what is kept.
            Err(LakeError::LogPruned { oldest, .. }) => oldest,
            events => events.map(|_| 0)?,
        },
    };
    if !args.follow && lake.head(&name).await?.is_none() {
        return Err(LakeError::NoRef { name }.into());
    }
    let mut wait_ms = POLL_MS_MIN;
    loop {
        match lake.events(&name, after).await {
            Ok(events) => {
                let any = !events.is_empty();
                for event in events {
                    after = event.seq;
                    print(&event, args, out)?;
                }
                out.flush()?;
                if any {
                    wait_ms = POLL_MS_MIN;
                    continue;
                }
                if !args.follow {
                    return Ok(());
                }
            }
            // A store that is away comes back; what is asked for by number is not passed over.
            Err(error @ LakeError::Store { .. }) if args.follow => {
                eprintln!("headwater: {error}, trying again; entries so far: {after}");
            }
            Err(error) => return Err(error.into()),
        }
        pause(wait_ms).await;
        wait_ms = wait_ms.saturating_mul(2).min(POLL_MS_MAX);
    }
}

/// The entry after which to begin.
async fn start(lake: &Lake, name: &RefName, since: &str) -> Result<u64, QueryError> {
    // Sixty-four digits are a commit, however unlikely; fewer are a number.
    if let Ok(seq) = since.parse() {
        return Ok(seq);
    }
    let commit = lake.resolve(since).await?;
    Ok(lake.seq_of_commit(name, &commit).await?)
}

fn print<W: Write>(event: &Event, args: &WatchArgs, out: &mut W) -> Result<(), QueryError> {
    if args.kinds.is_empty() || args.kinds.iter().any(|kind| kind == kind_of(event)) {
        writeln!(out, "{}", to_json(event))?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command for people polls a store; nothing is decided by the wait"
)]
async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
