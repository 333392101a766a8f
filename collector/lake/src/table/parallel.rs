//! Work on the columns of a table by all cores at once: sorting, gathering and encoding one of them knows nothing of the
//! others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Threads that help all callers of this process together: one for each core beyond the caller's own. Tables encoded beside
/// each other share them, so that there are never many more threads at work than cores.
static HELPERS: OnceLock<AtomicUsize> = OnceLock::new();

fn free() -> &'static AtomicUsize {
    HELPERS.get_or_init(|| AtomicUsize::new(std::thread::available_parallelism().map_or(0, |n| n.get() - 1)))
}

/// Helpers taken for one piece of work, given back when it ends in whatever way.
struct Taken(usize);

impl Taken {
    fn at_most(wanted: usize) -> Taken {
        let take = |free: usize| Some(free - free.min(wanted));
        let before = free().fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        Taken(before.map_or(0, |free| free.min(wanted)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        free().fetch_add(self.0, Ordering::AcqRel);
    }
}

/// Does `work` on every item, here and on whatever helpers are free, and gives the answers in the order of the items.
///
/// # Errors
/// The first error of any of them; what was not begun by then is left.
pub(super) fn map<T, R, E>(items: Vec<T>, work: impl Fn(T) -> Result<R, E> + Sync) -> Result<Vec<R>, E>
where
    T: Send,
    R: Send,
    E: Send,
{
    let helpers = Taken::at_most(items.len().saturating_sub(1));
    let count = items.len();
    if helpers.0 == 0 {
        return items.into_iter().map(work).collect();
    }
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = || {
        let mut done = Vec::new();
        while let Some((place, item)) = next() {
            let result = work(item);
            let failed = result.is_err();
            done.push((place, result));
            if failed {
                while next().is_some() {}
            }
        }
        done
    };
    let mut done: Vec<(usize, Result<R, E>)> = Vec::with_capacity(count);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..helpers.0).map(|_| scope.spawn(drain)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_the_order_of_the_items() {
        let squares = map((0..1_000_u64).collect(), |n| Ok::<_, ()>(n * n)).unwrap();
        assert!(squares.iter().zip(0..).all(|(square, n)| *square == n * n));
        assert_eq!(map(Vec::<u8>::new(), Ok::<_, ()>).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn an_error_is_told_and_helpers_come_back() {
        let fail = |n: u32| if n == 500 { Err(n) } else { Ok(n) };
        assert_eq!(map((0..1_000).collect(), fail), Err(500));
        let taken: Vec<Taken> = (0..4).map(|_| Taken::at_most(usize::MAX)).collect();
        assert!(taken.iter().skip(1).all(|taken| taken.0 == 0), "the first takes all that are free");
    }
}
