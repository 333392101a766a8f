//! Work on the columns of a table by all cores at once: sorting, gathering and encoding one of them knows nothing of the
//! others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Rows below which nobody is asked to help: a thread costs some tens of µs, more on a busy machine, and a column of as many
/// rows little more.
const HELPED_ROWS_MIN: usize = 16 * 1024;

/// Threads that may help beyond the callers' own.
struct Helpers {
    free: AtomicUsize,
}

/// Those of this process: one for each core beyond the first. Tables encoded beside each other share them, so that there
/// are never many more threads at work than cores.
static HELPERS: OnceLock<Helpers> = OnceLock::new();

/// Helpers taken for one piece of work, given back when it ends in whatever way.
struct Taken<'a> {
    from: &'a Helpers,
    count: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.from.free.fetch_add(self.count, Ordering::AcqRel);
    }
}

/// Does `work` on every item, here and on whatever helpers are free, and gives the answers in the order of the items, which
/// are columns of `rows` rows.
///
/// # Errors
/// The first error in that order among what was done; what was not begun when it happened is left.
pub(super) fn map<T, R, E>(
    rows: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Send,
    R: Send,
    E: Send,
{
    if rows < HELPED_ROWS_MIN {
        return items.into_iter().map(work).collect();
    }
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HELPERS.get_or_init(|| Helpers::new(cores() - 1)).map(items, work)
}

impl Helpers {
    const fn new(count: usize) -> Helpers {
        Helpers { free: AtomicUsize::new(count) }
    }

    fn take(&self, wanted: usize) -> Taken<'_> {
        let less = |free: usize| Some(free - free.min(wanted));
        let before = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        Taken { from: self, count: before.map_or(0, |free| free.min(wanted)) }
    }

    fn map<T, R, E>(&self, items: Vec<T>, work: impl Fn(T) -> Result<R, E> + Sync) -> Result<Vec<R>, E>
    where
        T: Send,
        R: Send,
        E: Send,
    {
        let helpers = self.take(items.len().saturating_sub(1));
        if helpers.count == 0 {
            return items.into_iter().map(work).collect();
        }
        let mut done: Vec<(usize, Result<R, E>)> = Vec::with_capacity(items.len());
        let queue = Mutex::new(items.into_iter().enumerate());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let drain = || {
            let mut done = Vec::new();
            while let Some((place, item)) = next() {
                let result = work(item);
                if result.is_err() {
                    while next().is_some() {}
                }
                done.push((place, result));
            }
            done
        };
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..helpers.count).map(|_| scope.spawn(drain)).collect();
            done.extend(drain());
            for handle in handles {
                match handle.join() {
                    Ok(more) => done.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        done.sort_unstable_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_the_order_of_the_items() {
        for count in [0, 1, 7] {
            let helpers = Helpers::new(count);
            let squares = helpers.map((0..1_000_u64).collect(), |n| Ok::<_, ()>(n * n)).unwrap();
            assert!(squares.iter().zip(0..).all(|(square, n)| *square == n * n));
            assert_eq!(helpers.map(Vec::<u8>::new(), Ok::<_, ()>).unwrap(), Vec::<u8>::new());
        }
    }

    #[test]
    fn an_error_is_told_and_helpers_come_back() {
        let helpers = Helpers::new(3);
        let fail = |n: u32| if n == 500 { Err(n) } else { Ok(n) };
        assert_eq!(helpers.map((0..1_000).collect(), fail), Err(500));
        let panics = std::panic::AssertUnwindSafe(|| {
            helpers.map(vec![1, 2, 3], |n| if n == 3 { panic!("{n}") } else { Ok::<_, ()>(n) })
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(helpers.take(usize::MAX).count, 3);
        let all = helpers.take(2);
        assert_eq!((all.count, helpers.take(9).count), (2, 1));
    }
}
