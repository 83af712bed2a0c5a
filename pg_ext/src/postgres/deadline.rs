//! An end to what somebody else's code may take: a timer that cancels whatever runs when it fires.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::pg_sys;

// PostgreSQL's timers (`src/include/utils/timeout.h`), for which pgrx has no bindings.
unsafe extern "C-unwind" {
    fn RegisterTimeout(id: c_int, handler: extern "C" fn()) -> c_int;
    fn enable_timeout_every(id: c_int, first: pg_sys::TimestampTz, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
}

/// At least `USER_TIMEOUT` of every release: PostgreSQL then gives the next free one.
const ANY_FREE: c_int = 20;
/// How often it cancels again, when the code that it stopped went on.
const AGAIN_MS: c_int = 100;

/// Whether the deadline that is armed has passed. Written by a signal's handler.
static PASSED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static TIMER: Cell<Option<c_int>> = const { Cell::new(None) };
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// Runs in a signal's handler: it only writes flags, as PostgreSQL's own handler of a cancel does
/// (`StatementCancelHandler` in postgres.c).
extern "C" fn pass() {
    PASSED.store(true, Ordering::SeqCst);
    // SAFETY: flags made for signal handlers, and the backend's own latch, which is set up before any query runs.
    unsafe {
        pg_sys::InterruptPending = 1;
        pg_sys::QueryCancelPending = 1;
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// A deadline for what runs until it is dropped. Within another it changes nothing: the outer one holds.
#[derive(Debug)]
pub struct Deadline {
    armed: bool,
}

impl Deadline {
    /// Arms the timer; `None` for no deadline.
    pub fn after(limit: Option<Duration>) -> Self {
        let limit = limit.filter(|_| !ARMED.get()).map(|limit| {
            c_int::try_from(limit.as_millis())
                .unwrap_or(c_int::MAX)
                .max(1)
        });
        if let Some(limit) = limit {
            PASSED.store(false, Ordering::SeqCst);
            ARMED.set(true);
            start(timer(), limit);
        }
        Self {
            armed: limit.is_some(),
        }
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        self.armed && PASSED.load(Ordering::SeqCst)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        ARMED.set(false);
        // SAFETY: the timer was registered. A cancel of its own that nobody has met yet is taken back.
        unsafe {
            disable_timeout(timer(), false);
            if PASSED.load(Ordering::SeqCst) {
                pg_sys::QueryCancelPending = 0;
            }
        }
    }
}

/// The backend's timer, registered once.
fn timer() -> c_int {
    TIMER.get().unwrap_or_else(|| {
        // SAFETY: called in a backend, whose timers are set up; the handler lives as long as the library, which is
        // never unloaded.
        let timer = unsafe { RegisterTimeout(ANY_FREE, pass) };
        TIMER.set(Some(timer));
        timer
    })
}

fn start(timer: c_int, limit: c_int) {
    // SAFETY: the timer was registered and is not active. Code that catches the cancel and goes on is cancelled again.
    unsafe {
        let first = pg_sys::GetCurrentTimestamp() + i64::from(limit) * 1000;
        enable_timeout_every(timer, first, AGAIN_MS);
    }
}
