//! The shell of replaying: reads quarantined items from the lake, a group's worth at a time, and has them folded again.

use super::aside::{Aside, held, payloads};
use super::fold::{Folder, Replayed, sections};
use super::requeue::{Answer, Request, answer, asked};
use headwater_core::batch::Rows;
use headwater_core::id::{Epoch, Sha256};
use headwater_core::schema::Fingerprint;
use headwater_core::time::UtcNanos;
use headwater_lake::{CommitId, Lake, LakeError};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// Requests of operators taken in at once. More stay in their folder until these are answered.
const REQUESTS_HELD_MAX: usize = 64;

/// Something to be folded again.
#[derive(Debug, Default)]
pub(super) struct Replay {
    request: Request,
    /// Only sections of this declaration.
    declared: Option<(Epoch, Fingerprint)>,
    /// Who asks, as `released_by` says it.
    by: String,
    file: Option<PathBuf>,
    /// Items that were tried: one that stays refused is not tried twice.
    tried: HashSet<Sha256>,
    answer: Answer,
}

impl Replay {
    /// Sections that wait for a declaration that has come.
    pub(super) fn declared(who: &super::aside::Undeclared) -> Self {
        let (device, epoch, fingerprint) = who;
        Self {
            request: Request { device: Some(device.clone()), ..Request::default() },
            declared: Some((*epoch, *fingerprint)),
            by: format!("declaration {fingerprint}"),
            ..Self::default()
        }
    }

    fn asked((file, request): (PathBuf, Request)) -> Self {
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { request, by: format!("request {name}"), file: Some(file), ..Self::default() }
    }

    fn wants(&self, aside: &Aside) -> bool {
        let Request { device, stream, reason, .. } = &self.request;
        device.as_ref().is_none_or(|device| *device == aside.device)
            && stream.as_ref().is_none_or(|stream| aside.stream.as_ref() == Some(stream))
            && reason.as_ref().is_none_or(|reason| *reason == aside.reason)
            && self.declared.is_none_or(|(epoch, fingerprint)| {
                epoch == aside.epoch && aside.fingerprint == Some(fingerprint)
            })
    }
}

/// Takes in new requests.
pub(super) fn look(folder: &mut Folder) {
    let Some(dir) = folder.settings.requests.clone() else { return };
    match asked(&dir) {
        Ok(requests) => {
            for (file, request) in requests {
                if folder.wanted.len() >= REQUESTS_HELD_MAX {
                    break;
                }
                if !folder.wanted.iter().any(|replay| replay.file.as_ref() == Some(&file)) {
                    folder.wanted.push_back(Replay::asked((file, request)));
                }
            }
        }
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "requests to requeue cannot be read"),
    }
}

/// Folds again what `replay` wants and the lake holds at `head`, up to a group's worth. True if there may be more.
pub(super) async fn step(
    folder: &mut Folder,
    replay: &mut Replay,
    lake: &Lake,
    head: &CommitId,
    now: UtcNanos,
) -> Result<bool, LakeError> {
    let mut open = held(lake, head).await?;
    open.retain(|key, aside| replay.wants(aside) && !replay.tried.contains(key));
    if open.is_empty() {
        return Ok(false);
    }
    let room = folder.settings.group_bytes_max.saturating_sub(folder.group.bytes);
    let mut items: Vec<(Sha256, Aside, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    payloads(lake, head, replay.request.device.as_ref(), |aside, payload| {
        let key = aside.key();
        if open.remove(&key).is_some() {
            bytes += payload.len();
            items.push((key, aside, payload));
        }
        bytes < room
    })
    .await?;
    for (key, aside, payload) in items {
        let outcome = match sections(&payload) {
            Ok(sections) => {
                let objects = objects(folder, lake, &aside, &sections).await?;
                folder.replay(&aside, sections, &replay.request, &replay.by, &objects, now)
            }
            Err(why) => Replayed::Refused(why),
        };
        replay.tried.insert(key);
        replay.answer.items += 1;
        match outcome {
            Replayed::Landed(rows) => {
                replay.answer.released += 1;
                replay.answer.rows += rows;
            }
            Replayed::Known => replay.answer.released += 1,
            Replayed::Refused(why) => *replay.answer.refused.entry(why).or_default() += 1,
        }
    }
    Ok(!open.is_empty())
}

async fn objects(
    folder: &Folder,
    lake: &Lake,
    aside: &Aside,
    sections: &[Rows],
) -> Result<HashMap<Sha256, String>, LakeError> {
    let mut found = HashMap::new();
    for sha256 in folder.objects_of(aside, sections) {
        if let Some(path) = lake.blob_path(&sha256.to_string()).await? {
            found.insert(sha256, path);
        }
    }
    Ok(found)
}

/// All of it is committed: says so where it was asked.
pub(super) fn finish(replay: &Replay) {
    let Answer { items, released, rows, refused } = &replay.answer;
    tracing::info!(by = replay.by, items, released, rows, ?refused, "quarantined items folded again");
    if let Some(file) = &replay.file
        && let Err(error) = answer(file, &replay.answer)
    {
        // Asked again it finds nothing to do: what is in is known.
        tracing::warn!(file = %file.display(), %error, "request cannot be answered");
    }
}
