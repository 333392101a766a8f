//! Is a panic caught? Without unwinding a torn index would end the agent at each start.

use super::Found;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The thread of ours that is to panic.
const THREAD: &str = "selftest-panic";

/// A panic in a thread of ours ends that thread alone.
pub(super) fn caught() -> Found {
    let (panicked, count) = quietly(THREAD, || {
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        thread.spawn::<_, ()>(|| panic!("on purpose")).map(|thread| thread.join().is_err())
    });
    match panicked {
        Ok(true) if count == 1 => Ok("a panic is caught".to_owned()),
        Ok(_) => Err("a panic was not seen".to_owned()),
        Err(error) => Err(format!("no thread can be started: {error}")),
    }
}

/// Does `work`, counts the panics of threads of this name meanwhile, and keeps their messages to itself.
pub(super) fn quietly<T>(thread: &'static str, work: impl FnOnce() -> T) -> (T, usize) {
    type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;
    let usual: Arc<Hook> = Arc::new(panic::take_hook());
    let (others, count) = (Arc::clone(&usual), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some(thread) {
            counted.fetch_add(1, Ordering::Relaxed);
        } else {
            others(info);
        }
    }));
    let done = work();
    // Ours goes, and with it the other hold on the usual one.
    drop(panic::take_hook());
    if let Some(usual) = Arc::into_inner(usual) {
        panic::set_hook(usual);
    }
    (done, count.load(Ordering::Relaxed))
}
