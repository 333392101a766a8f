//! One table changed on both sides since the base: what the joined table is made of. A decision on file lists alone.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use iceberg::spec::DataContentType;

use super::files::{Delta, Files, LiveFile};

/// What to do with a table that both sides changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Joining {
    /// Our table, with what they did on top.
    OntoOurs(Delta),
    /// Their table, with what we did on top: we compacted files that they changed, so our compaction is dropped.
    OntoTheirs(Delta),
    /// Our table as it is: both made the same of it.
    Ours,
    /// It cannot be joined file by file.
    Conflict { reason: String, files: Vec<String> },
}

/// One side's change, and the same with its compactions undone where history still tells them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SideChange {
    /// What the side differs from the base in.
    pub(super) net: Delta,
    /// The same without compactions: files as they were first written. None if that cannot be told any more.
    pub(super) plain: Option<Delta>,
}

/// Joins two changes of one base.
pub(super) fn join(ours: &SideChange, theirs: &SideChange) -> Joining {
    for side in [ours, theirs] {
        if let Some(conflict) = deletes(side, ours, theirs) {
            return conflict;
        }
    }
    let both: Vec<String> =
        theirs.net.removed.keys().filter(|url| ours.net.removed.contains_key(*url)).cloned().collect();
    if both.is_empty() {
        // Where they put files together that we have too, the files they are made of tell which those are.
        let folded = theirs.plain.as_ref().filter(|_| took_up(theirs, ours));
        return Joining::OntoOurs(onto(ours, folded.unwrap_or(&theirs.net)));
    }
    if ours.net.removed_urls() == theirs.net.removed_urls()
        && same_content(&ours.net.added, &theirs.net.added)
    {
        return Joining::Ours;
    }
    // A compaction changes no row, so it can be left out on the side where it stands in the way.
    for (plain, other, ours_stays) in [(&theirs.plain, ours, true), (&ours.plain, theirs, false)] {
        let Some(plain) = plain else { continue };
        if plain.removed.keys().any(|url| other.net.removed.contains_key(url)) {
            continue;
        }
        let change = onto(other, plain);
        return if ours_stays { Joining::OntoOurs(change) } else { Joining::OntoTheirs(change) };
    }
    let reason = format!(
        "both sides rewrote {} of its files; take one side's table with --strategy ours or theirs, or make the change anew on the other side",
        both.len()
    );
    Joining::Conflict { reason, files: both }
}

/// Files whose rows may be in a file the other side put together, where that side's history does not tell, and why it
/// matters; none if there are none.
pub(super) fn untold(ours: &SideChange, theirs: &SideChange) -> Option<(String, Vec<String>)> {
    let mut files = Vec::new();
    for (side, other) in [(ours, theirs), (theirs, ours)] {
        let only = |of: &SideChange, not: &SideChange| -> Files {
            let fresh = of.net.added.iter().filter(|(url, _)| !not.net.added.contains_key(*url));
            fresh.map(|(url, live)| (url.clone(), live.clone())).collect()
        };
        if side.plain.is_none() {
            let large = only(side, other);
            let held = |live: &LiveFile| large.values().any(|large| may_hold(large, live));
            files.extend(only(other, side).into_iter().filter(|(_, live)| held(live)).map(|(url, _)| url));
        }
    }
    let reason = format!(
        "rows of {} of its files may be on both sides already, in files that were rewritten, and kept history does not tell; take one side's table with --strategy ours or theirs, or cherry-pick the commits that are missing",
        files.len()
    );
    (!files.is_empty()).then_some((reason, files))
}

/// Whether all rows of `small` could be in `large`, by what manifests say of both.
fn may_hold(large: &LiveFile, small: &LiveFile) -> bool {
    let is_apart = large.spec_id == small.spec_id && large.file.partition() != small.file.partition();
    let (large, small) = (&large.file, &small.file);
    let least = small.lower_bounds().iter().all(|(id, bound)| {
        large.lower_bounds().get(id).is_none_or(|of| of.partial_cmp(bound) != Some(Ordering::Greater))
    });
    let greatest = small.upper_bounds().iter().all(|(id, bound)| {
        large.upper_bounds().get(id).is_none_or(|of| of.partial_cmp(bound) != Some(Ordering::Less))
    });
    !is_apart && large.record_count() >= small.record_count() && least && greatest
}

/// Whether a compaction of `side` took up a file that the other side has too: its rows would come twice.
fn took_up(side: &SideChange, other: &SideChange) -> bool {
    let plain = side.plain.iter().flat_map(|plain| plain.added.keys());
    plain.filter(|url| !side.net.added.contains_key(*url)).any(|url| other.brought(url))
}

impl SideChange {
    /// Whether the rows of a file came to this side, under whatever name they are there now.
    fn brought(&self, url: &str) -> bool {
        let plain = self.plain.as_ref().is_some_and(|plain| plain.added.contains_key(url));
        plain || self.net.added.contains_key(url)
    }
}

/// What of `change` is not there yet on the other side.
fn onto(other: &SideChange, change: &Delta) -> Delta {
    let fresh = |url: &String| !other.brought(url);
    let added = change.added.iter().filter(|(url, _)| fresh(url)).map(|(u, f)| (u.clone(), f.clone()));
    Delta { added: added.collect(), removed: change.removed.clone() }
}

fn deletes(side: &SideChange, ours: &SideChange, theirs: &SideChange) -> Option<Joining> {
    let of = |content: DataContentType| -> Vec<String> {
        let changed = side.net.added.iter().chain(&side.net.removed);
        changed.filter(|(_, live)| live.file.content_type() == content).map(|(url, _)| url.clone()).collect()
    };
    let equality = of(DataContentType::EqualityDeletes);
    if !equality.is_empty() {
        let reason = "equality deletes would hit the other side's rows; compact the table on the side that has them first"
            .to_owned();
        return Some(Joining::Conflict { reason, files: equality });
    }
    // A position delete names a file and a row in it: it is lost on a table where that file was rewritten.
    let rewrote = |other: &SideChange| other.net.removed.values().any(LiveFile::is_data);
    let position = of(DataContentType::PositionDeletes);
    let other = if std::ptr::eq(side, ours) { theirs } else { ours };
    if !position.is_empty() && (rewrote(other) || !side.net.removed.is_empty()) {
        let reason = "one side deleted rows by position where files were rewritten; compact the table on that side first"
            .to_owned();
        return Some(Joining::Conflict { reason, files: position });
    }
    None
}

/// Whether two lists of files hold the same bytes. Names begin with a hash of the content.
fn same_content(a: &Files, b: &Files) -> bool {
    let hashes =
        |files: &Files| -> Option<BTreeSet<String>> { files.keys().map(|url| content_of(url)).collect() };
    matches!((hashes(a), hashes(b)), (Some(a), Some(b)) if a == b)
}

/// Folder and content hash in a data file's name; none for names other writers gave.
fn content_of(url: &str) -> Option<String> {
    let (folder, file) = url.rsplit_once('/')?;
    let (hash, _) = file.split_once('-')?;
    (hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| format!("{folder}/{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use iceberg::spec::{DataFileBuilder, DataFileFormat, Struct};

    fn files(names: &[&str]) -> Files {
        let file = |name: &&str| {
            let content = match name.chars().next() {
                Some('=') => DataContentType::EqualityDeletes,
                Some('#') => DataContentType::PositionDeletes,
                _ => DataContentType::Data,
            };
            let file = DataFileBuilder::default()
                .content(content)
                .file_path((*name).to_owned())
                .file_format(DataFileFormat::Parquet)
                .partition(Struct::empty())
                .partition_spec_id(0)
                .record_count(1)
                .file_size_in_bytes(1)
                .build()
                .unwrap();
            ((*name).to_owned(), LiveFile { file, spec_id: 0 })
        };
        names.iter().map(file).collect()
    }

    fn delta(added: &[&str], removed: &[&str]) -> Delta {
        Delta { added: files(added), removed: files(removed) }
    }

    fn side(added: &[&str], removed: &[&str]) -> SideChange {
        SideChange { net: delta(added, removed), plain: None }
    }

    fn told(joining: Joining) -> String {
        match joining {
            Joining::Conflict { reason, .. } => reason.split(';').next().unwrap_or_default().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn changes_that_do_not_meet_go_on_top() {
        let joined = join(&side(&["a"], &["x"]), &side(&["b"], &["y"]));
        assert_eq!(joined, Joining::OntoOurs(delta(&["b"], &["y"])));
        let picked = join(&side(&["a", "b"], &[]), &side(&["b", "c"], &[]));
        assert_eq!(picked, Joining::OntoOurs(delta(&["c"], &[])), "what was picked before is there");
    }

    #[test]
    fn a_compaction_that_stands_in_the_way_is_left_out() {
        let compacted = SideChange { net: delta(&["xy1"], &["x", "y"]), plain: Some(delta(&["1"], &[])) };
        let overwrote = side(&["x2"], &["x"]);
        assert_eq!(join(&overwrote, &compacted), Joining::OntoOurs(delta(&["1"], &[])));
        assert_eq!(join(&compacted, &overwrote), Joining::OntoTheirs(delta(&["1"], &[])));
        let also = SideChange { net: delta(&["xy2"], &["x", "y"]), plain: Some(delta(&["2"], &[])) };
        assert_eq!(join(&compacted, &also), Joining::OntoOurs(delta(&["2"], &[])));
        assert_eq!(told(join(&overwrote, &side(&["x3"], &["x"]))), "both sides rewrote 1 of its files");
    }

    #[test]
    fn what_one_side_picked_and_put_together_comes_once() {
        let folded = SideChange { net: delta(&["a1"], &[]), plain: Some(delta(&["a", "1"], &[])) };
        let plain = SideChange { net: delta(&["a", "b"], &[]), plain: Some(delta(&["a", "b"], &[])) };
        assert_eq!(join(&folded, &plain), Joining::OntoOurs(delta(&["b"], &[])));
        assert_eq!(join(&plain, &folded), Joining::OntoOurs(delta(&["1"], &[])));
        let other = SideChange { net: delta(&["a2"], &[]), plain: Some(delta(&["a", "2"], &[])) };
        assert_eq!(join(&folded, &other), Joining::OntoOurs(delta(&["2"], &[])));
        assert_eq!(untold(&folded, &plain), None);
        // Nothing tells what is in `a1`.
        let (reason, files) = untold(&side(&["a1"], &[]), &plain).unwrap();
        assert!(reason.starts_with("rows of 2 of its files may be on both sides"), "{reason}");
        assert_eq!(files, ["a", "b"]);
    }

    #[test]
    fn the_same_bytes_of_the_same_files_are_one_change() {
        let hash = "0123456789abcdef0123456789abcdef";
        let named = |unique: &str| format!("t/ts_day=1/{hash}-{unique}.parquet");
        let ours = side(&[&named("a")], &["x", "y"]);
        assert_eq!(join(&ours, &side(&[&named("b")], &["x", "y"])), Joining::Ours);
        assert!(matches!(join(&ours, &side(&["x2"], &["x", "y"])), Joining::Conflict { .. }));
    }

    #[test]
    fn deletes_by_value_never_join_and_deletes_by_position_only_beside_appends() {
        let plain = side(&["a"], &[]);
        assert!(told(join(&plain, &side(&["=1"], &[]))).starts_with("equality deletes"));
        assert!(told(join(&side(&["=1"], &[]), &plain)).starts_with("equality deletes"));
        assert_eq!(join(&plain, &side(&["#1"], &[])), Joining::OntoOurs(delta(&["#1"], &[])));
        let rewrote = side(&["x2"], &["x"]);
        assert!(told(join(&rewrote, &side(&["#1"], &[]))).starts_with("one side deleted rows by position"));
        assert!(told(join(&side(&["#1"], &[]), &rewrote)).starts_with("one side deleted rows by position"));
    }
}
