//! From a case that fails to a small one that fails as well.

use std::time::{Duration, Instant};

/// How long to look for a smaller case.
const PATIENCE: Duration = Duration::from_secs(60);

/// The items with a part left out: a half, a quarter, down to one item.
#[must_use]
pub fn with_parts_left_out<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let mut fewer = Vec::new();
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        for start in (0..items.len()).step_by(size).rev() {
            let end = (start + size).min(items.len());
            fewer.push([&items[..start], &items[end..]].concat());
        }
        size /= 2;
    }
    fewer
}

/// Takes the first simpler case that fails, over and over, until none does or patience ends. The
/// result is what `run` said of the last.
pub async fn shrink<C: Clone>(
    case: C,
    failure: String,
    simpler: impl Fn(&C) -> Vec<C>,
    mut run: impl AsyncFnMut(&C) -> Result<(), String>,
) -> String {
    let (mut case, mut failure) = (case, failure);
    let began = Instant::now();
    'smaller: loop {
        for candidate in simpler(&case) {
            if began.elapsed() > PATIENCE {
                return failure;
            }
            if let Err(found) = run(&candidate).await {
                (case, failure) = (candidate, found);
                continue 'smaller;
            }
        }
        return failure;
    }
}

/// The same for a long list of steps, which takes too many attempts when each begins anew: parts are left out from the
/// end to the front, and smaller ones when no part of a size can be spared.
pub async fn fewest<T: Clone>(
    steps: Vec<T>,
    failure: String,
    mut run: impl AsyncFnMut(&[T]) -> Result<(), String>,
) -> String {
    let (mut steps, mut failure) = (steps, failure);
    let began = Instant::now();
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut end = steps.len();
        while end > 0 {
            if began.elapsed() > PATIENCE {
                return failure;
            }
            let start = end.saturating_sub(size);
            let fewer = [&steps[..start], &steps[end.min(steps.len())..]].concat();
            if let Err(found) = run(&fewer).await {
                (steps, failure) = (fewer, found);
            }
            end = start;
        }
        size /= 2;
    }
    failure
}
