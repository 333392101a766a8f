//! The planner alone, over simulated days: how many files a reader of today meets at every hour, and how often a row is
//! written.

use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn table() -> TableName {
    TableName::new("raw.imu").unwrap()
}

/// A table of one day in the planner's eyes, with the bytes that merges wrote.
struct Day {
    files: Vec<FileFacts>,
    next: i64,
    ingested: u64,
    rewritten: u64,
    rounds: u64,
}

impl Day {
    fn new() -> Day {
        Day { files: Vec::new(), next: 0, ingested: 0, rewritten: 0, rounds: 0 }
    }

    fn add(&mut self, level: Level, bytes: u64) {
        self.next += 1;
        let path = format!("{}-{level}.parquet", self.next);
        self.files.push(FileFacts { path, level, bytes, number: self.next, has_deletes: false });
    }

    fn commit(&mut self, bytes: u64) {
        self.ingested += bytes;
        self.add(Level::Commit, bytes);
    }

    /// Does all that is due; false if nothing was.
    fn compact(&mut self, closed: bool, policy: &CompactPolicy) -> bool {
        let groups = due(&table(), 0, &self.files, closed, policy);
        self.rounds += u64::from(!groups.is_empty());
        for group in &groups {
            let before = self.files.len();
            self.files.retain(|file| !group.inputs.contains(&file.path));
            assert_eq!(before - self.files.len(), group.inputs.len(), "each input is there, once");
            self.rewritten += group.bytes;
            let mut left = group.bytes;
            while left > 0 {
                let one = left.min(policy.file_bytes(group.bytes));
                self.add(group.level, one);
                left -= one;
            }
        }
        !groups.is_empty()
    }

    fn settle(&mut self, closed: bool, policy: &CompactPolicy) {
        let mut rounds = 0;
        while self.compact(closed, policy) {
            rounds += 1;
            assert!(rounds < 100, "merging comes to an end");
        }
    }

    /// Files of a step that are not full: what is full is as good as compacted.
    fn count(&self, level: Level, policy: &CompactPolicy) -> usize {
        self.small(policy).filter(|file| file.level == level).count()
    }

    fn small<'a>(&'a self, policy: &'a CompactPolicy) -> impl Iterator<Item = &'a FileFacts> {
        self.files.iter().filter(|file| file.bytes < policy.full_bytes)
    }
}

/// 24 h at a commit each 10 s: today stays few files at every hour, and each row is written again four times at most. What a
/// reader gains by it is measured on files; here is what it rests on.
#[test]
fn read_today_1p3_as_planned() {
    let policy = CompactPolicy::default();
    for commit_bytes in [60_000, 400_000, 3_000_000_u64] {
        let mut day = Day::new();
        let mut most = 0;
        for commit in 1..=8_640_u64 {
            day.commit(commit_bytes);
            day.compact(false, &policy);
            most = most.max(day.small(&policy).count());
            // 7 of commits, 7 of minutes, 5 of tens, and one an hour (a little more than an hour each).
            for (level, bound) in [(Level::Commit, 7), (Level::Minutes, 7), (Level::Tens, 5)] {
                assert!(day.count(level, &policy) <= bound, "{level} at commit {commit}");
            }
            if commit % 360 == 0 {
                let hour = usize::try_from(commit / 360).unwrap();
                let small = day.small(&policy).count();
                assert!(small <= 19 + hour, "hour {hour}: {small} files");
            }
        }
        let today = day.rewritten as f64 / day.ingested as f64;
        day.settle(true, &policy);
        let all = day.rewritten as f64 / day.ingested as f64;
        println!(
            "{commit_bytes} B a commit: at most {most} files today that are not full, rewritten {today:.2}x today and \
             {all:.2}x in all, {} rounds, {} files of the closed day",
            day.rounds,
            day.files.len()
        );
        assert!(most <= 42, "{most}");
        assert!(all <= 4.0, "{all}");
        let full = usize::try_from(day.ingested / policy.full_bytes).unwrap();
        assert!(day.files.len() <= full + 1, "{} files", day.files.len());
    }
}

#[test]
fn a_quiet_table_is_one_file_and_a_handful() {
    let policy = CompactPolicy::default();
    let mut day = Day::new();
    for _ in 0..500 {
        day.commit(400);
        day.compact(false, &policy);
        assert!(day.files.len() <= 8, "{}", day.files.len());
    }
}

#[test]
fn late_rows_do_not_write_a_closed_day_again_each_time() {
    let policy = CompactPolicy::default();
    let mut day = Day::new();
    day.add(Level::Day, 100 * MIB);
    for _ in 0..1_000 {
        day.commit(50_000);
        day.settle(true, &policy);
        assert!(day.files.len() <= 32, "{}", day.files.len());
    }
    // 48 MiB came; the day's last file was not touched for it, and the rest climbed.
    assert!(day.rewritten <= 4 * day.ingested + 150 * MIB, "{} of {}", day.rewritten, day.ingested);
}

#[test]
fn a_backlog_is_worked_off_in_parts() {
    let policy = CompactPolicy::default();
    let mut day = Day::new();
    (0..8_640).for_each(|_| day.commit(10_000));
    let groups = due(&table(), 0, &day.files, false, &policy);
    assert!(groups.iter().all(|group| group.inputs.len() <= 32) && groups.len() == 270);
    day.settle(false, &policy);
    assert!(day.files.len() <= 42, "{}", day.files.len());
    day.settle(true, &policy);
    assert_eq!(day.files.len(), 1);
}

#[test]
fn files_with_deletes_come_first_and_full_ones_stay() {
    let policy = CompactPolicy::default();
    let mut day = Day::new();
    day.add(Level::Day, 200 * MIB);
    day.add(Level::Day, 200 * MIB);
    assert_eq!(due(&table(), 0, &day.files, true, &policy), []);
    day.files[1].has_deletes = true;
    let groups = due(&table(), 0, &day.files, true, &policy);
    assert_eq!((groups.len(), groups[0].inputs.len(), groups[0].level), (1, 1, Level::Day));
}

#[test]
fn a_round_takes_what_is_small_and_at_least_one() {
    let policy = CompactPolicy { round_bytes_max: 100, ..CompactPolicy::default() };
    let group = |day, bytes| Group { table: table(), day, inputs: Vec::new(), bytes, level: Level::Day };
    let (now, later) = round(vec![group(1, 70), group(2, 30), group(3, 60)], &policy);
    assert_eq!((now.len(), later.len()), (2, 1));
    let (now, later) = round(vec![group(1, 700)], &policy);
    assert_eq!((now.len(), later.len()), (1, 0));
}

proptest! {
    #[test]
    fn whatever_comes_merging_ends_and_takes_each_file_once(
        files in prop::collection::vec((0usize..5, 1u64..200_000_000, any::<bool>()), 0..80),
        closed in any::<bool>(),
    ) {
        let policy = CompactPolicy::default();
        let mut day = Day::new();
        for (level, bytes, deletes) in files {
            day.add(Level::ALL[level], bytes);
            if let Some(file) = day.files.last_mut() {
                file.has_deletes = deletes && bytes % 7 == 0;
            }
        }
        let bytes: u64 = day.files.iter().map(|file| file.bytes).sum();
        day.settle(closed, &policy);
        prop_assert_eq!(bytes, day.files.iter().map(|file| file.bytes).sum::<u64>());
        prop_assert!(day.files.iter().all(|file| !file.has_deletes));
    }
}
