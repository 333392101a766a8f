//! Which manifests to write together, decided from nothing but how many files each lists.
//!
//! Manifests climb as data files do: some small ones become one of the next level, eight of those one of the level above.
//! So each entry is written again three times in its life however long the history, and a table lists some dozens of
//! manifests and one full one per thousand files or more. A step that would complete the next takes its manifests along.

use iceberg::spec::ManifestFile;

use crate::names::TableName;

/// Files a manifest of the lowest level has less than; of each level above so many times more.
const STEP_FILES: u64 = 8;

/// Manifests of one of the upper levels that become one of the next.
const STEP_MANIFESTS: usize = 8;

/// Levels that are written again. A manifest beyond (512 files and more) is full and stays as it is.
const LEVELS: usize = 3;

/// Small manifests that a table has at least and at most before they are merged: a reader opens each. Between the two
/// the table's name decides, so that tables that are always committed to together are not all merged in one commit.
const SMALL_MIN: usize = 12;
const SMALL_SPREAD: u64 = 16;

/// Small manifests that are merged even if they must be read for it, which costs a commit a round trip: after a start
/// or in a lake with more than memory holds.
const SMALL_MAX: usize = 64;

/// The same of upper levels.
const UPPER_MAX: usize = 2 * STEP_MANIFESTS;

/// So many commits before a merge its manifests are read, beside what those commits write.
const AHEAD_COMMITS: usize = 8;

/// Files that are still in a manifest, as far as it says; one that does not say is left as it is.
fn alive(manifest: &ManifestFile) -> u64 {
    let files = manifest.added_files_count.zip(manifest.existing_files_count);
    files.map_or(u64::MAX, |(added, existing)| u64::from(added) + u64::from(existing))
}

fn level(manifest: &ManifestFile) -> Option<usize> {
    let mut files = STEP_FILES;
    for level in 0..LEVELS {
        if alive(manifest) < files {
            return Some(level);
        }
        files *= STEP_FILES;
    }
    None
}

/// Small manifests at which those of a table are merged. FNV-1a (Fowler, Noll, Vo): the same on every machine.
pub(super) fn small_max(table: &TableName) -> usize {
    let hash = table
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    // Names that differ in a digit differ in few bits of it: Fibonacci hashing (Knuth) brings all of them to the top.
    let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    SMALL_MIN + usize::try_from(spread % SMALL_SPREAD).unwrap_or_default()
}

/// Manifests of one spec and content on their shelf: which could be written together, by level.
#[derive(Debug)]
pub(super) struct Ladder<'a> {
    levels: [Vec<(usize, &'a ManifestFile)>; LEVELS],
}

impl<'a> Ladder<'a> {
    /// Of the manifests with their places in the table's list; only those that may be written again.
    pub(super) fn of(manifests: impl Iterator<Item = (usize, &'a ManifestFile)>) -> Ladder<'a> {
        let mut levels: [Vec<(usize, &'a ManifestFile)>; LEVELS] = Default::default();
        for (place, manifest) in manifests {
            if let Some(of_level) = level(manifest).and_then(|level| levels.get_mut(level)) {
                of_level.push((place, manifest));
            }
        }
        Ladder { levels }
    }

    /// Those due to become one, if the smallest are `small_max`. What is not in memory, as `is_kept` tells, waits until it
    /// is, but not for ever.
    pub(super) fn due(&self, small_max: usize, is_kept: impl Fn(&ManifestFile) -> bool) -> Vec<usize> {
        let [small, ..] = &self.levels;
        let in_memory = |some: &[(usize, &ManifestFile)]| some.iter().all(|(_, manifest)| is_kept(manifest));
        if small.len() < small_max || !(in_memory(small) || small.len() >= SMALL_MAX) {
            return Vec::new();
        }
        let small = small.iter().map(|(place, _)| *place);
        small.chain(self.climbed(|above| in_memory(above) || above.len() >= UPPER_MAX)).collect()
    }

    /// Those that may be written together with others that must be written anyway: what is in memory.
    pub(super) fn beside(&self, is_kept: impl Fn(&ManifestFile) -> bool) -> Vec<usize> {
        let [small, ..] = &self.levels;
        let small = small.iter().filter(|(_, manifest)| is_kept(manifest)).map(|(place, _)| *place);
        small.chain(self.climbed(|above| above.iter().all(|(_, manifest)| is_kept(manifest)))).collect()
    }

    /// Those that will be due in some commits and are not in memory.
    pub(super) fn wanted(
        &self,
        small_max: usize,
        is_kept: impl Fn(&ManifestFile) -> bool,
    ) -> Vec<&'a ManifestFile> {
        let soon = small_max.saturating_sub(AHEAD_COMMITS);
        let due = self.due(soon, |_| true);
        let all = self.levels.iter().flatten();
        all.filter(|(place, manifest)| due.contains(place) && !is_kept(manifest)).map(|(_, m)| *m).collect()
    }

    /// Upper levels that one manifest more completes, from below.
    fn climbed(&self, may: impl Fn(&[(usize, &ManifestFile)]) -> bool) -> impl Iterator<Item = usize> {
        let [_, upper @ ..] = &self.levels;
        upper
            .iter()
            .take_while(move |above| above.len() + 1 >= STEP_MANIFESTS && may(above))
            .flatten()
            .map(|(place, _)| *place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use iceberg::spec::ManifestContentType;

    use super::*;

    fn manifest(files: u32) -> ManifestFile {
        ManifestFile {
            manifest_path: String::new(),
            manifest_length: 0,
            partition_spec_id: 0,
            content: ManifestContentType::Data,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: Some(files),
            existing_files_count: Some(0),
            deleted_files_count: Some(0),
            added_rows_count: None,
            existing_rows_count: None,
            deleted_rows_count: None,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    /// Commits of a file each: manifests listed at most, how often an entry is written again, the largest merge.
    fn history(commits: u64, small_max: usize) -> (usize, f64, u64) {
        let (mut manifests, mut most, mut written, mut largest): (Vec<ManifestFile>, _, _, _) =
            (Vec::new(), 0, 0, 0);
        for _ in 0..commits {
            let ladder = Ladder::of(manifests.iter().enumerate());
            let due = ladder.due(small_max, |_| true);
            let files: u64 = due.iter().map(|place| alive(&manifests[*place])).sum();
            if !due.is_empty() {
                let mut place = 0;
                manifests.retain(|_| {
                    place += 1;
                    !due.contains(&(place - 1))
                });
                manifests.push(manifest(u32::try_from(files).unwrap()));
                written += files;
                largest = largest.max(files);
            }
            manifests.push(manifest(1));
            let full = manifests.iter().filter(|manifest| level(manifest).is_none()).count();
            most = most.max(manifests.len() - full);
        }
        (most, written as f64 / commits as f64, largest)
    }

    #[test]
    fn a_long_history_lists_few_manifests_and_writes_each_entry_three_times() {
        for small_max in [SMALL_MIN, SMALL_MIN + 15] {
            let (most, written, largest) = history(20_000, small_max);
            assert!(most <= small_max + 2 * STEP_MANIFESTS, "{most} manifests are listed");
            assert!(written <= 3.0, "an entry is written {written} times more");
            assert!(largest <= 2_500, "{largest} entries in one merge");
        }
    }

    #[test]
    fn what_is_not_in_memory_waits_and_is_read_ahead() {
        let manifests: Vec<ManifestFile> = (0..SMALL_MAX).map(|_| manifest(1)).collect();
        let ladder = |n: usize| Ladder::of(manifests[..n].iter().enumerate());
        assert_eq!(ladder(12).due(12, |_| true).len(), 12);
        assert!(ladder(11).due(12, |_| true).is_empty() && ladder(63).due(12, |_| false).is_empty());
        assert_eq!(ladder(64).due(12, |_| false).len(), 64, "but not for ever");
        assert_eq!(ladder(12 - AHEAD_COMMITS).wanted(12, |_| false).len(), 12 - AHEAD_COMMITS);
        assert!(ladder(3).wanted(12, |_| false).is_empty() && ladder(12).wanted(12, |_| true).is_empty());
        assert!(ladder(5).beside(|_| false).is_empty());
        assert_eq!(ladder(5).beside(|_| true), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_level_that_is_completed_goes_along_and_full_ones_stay() {
        let sizes = [9_u32, 20, 30, 40, 50, 60, 63, 600, u32::MAX].into_iter().chain([1; 12]);
        let manifests: Vec<ManifestFile> = sizes.map(manifest).collect();
        let due = Ladder::of(manifests.iter().enumerate()).due(12, |_| true);
        assert_eq!(due.len(), 12 + 7);
        assert!(!due.contains(&7) && !due.contains(&8));
        let odd = ManifestFile { existing_files_count: None, ..manifest(1) };
        assert_eq!(level(&odd), None);
    }

    #[test]
    fn tables_of_like_names_are_merged_at_different_times() {
        let mut at = BTreeMap::new();
        for n in 0..20 {
            let table = TableName::new(format!("raw.s{n:02}")).unwrap();
            *at.entry(small_max(&table)).or_insert(0) += 1;
        }
        assert!(at.keys().all(|at| (12..28).contains(at)), "{at:?}");
        assert!(at.len() >= 8 && at.values().all(|tables| *tables <= 4), "{at:?}");
    }
}
