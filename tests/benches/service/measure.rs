//! How long requests take, how many there are in a second, and what they cost: the processor's time in the service and in the database, apart.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keepsake_tests::migrate::WORKER;
use keepsake_tests::processor;
use keepsake_tests::stack::Stack;
use sqlx::Connection as _;

use crate::side::Side;

/// Requests at the same time, where their rate is measured.
const SIDE_BY_SIDE: usize = 8;
/// Requests of one side before the other's turn: what else the machine does falls on both.
const TURN: usize = 20;

/// What requests of one kind took on one side.
#[derive(Default)]
pub struct Measured {
    times: Vec<Duration>,
    alone: Cost,
    together: Cost,
    together_for: Duration,
}

/// Processor time of some requests.
#[derive(Clone, Copy, Default)]
struct Cost {
    requests: usize,
    service: Duration,
    database: Duration,
}

impl Measured {
    /// Milliseconds of a request, one after the other.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    /// Requests in a second, eight at the same time.
    pub fn rate(&self) -> f64 {
        self.together.requests as f64 / self.together_for.as_secs_f64()
    }

    /// Milliseconds of the processor for each request, in the service and in the database.
    pub fn cost(&self) -> [f64; 2] {
        let requests = (self.alone.requests + self.together.requests) as f64;
        [
            self.alone.service + self.together.service,
            self.alone.database + self.together.database,
        ]
        .map(|time| time.as_secs_f64() * 1e3 / requests)
    }
}

impl Cost {
    fn add(&mut self, requests: usize, before: [Duration; 2], after: [Duration; 2]) {
        self.requests += requests;
        self.service += after[0].saturating_sub(before[0]);
        self.database += after[1].saturating_sub(before[1]);
    }
}

/// Processor time so far of a side, and of the backends that requests use.
async fn spent(stack: &Stack, side: &Side) -> Result<[Duration; 2]> {
    let mut database = stack.postgres.connect().await?;
    let backends: Vec<i32> =
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE usename = $1")
            .bind(WORKER)
            .fetch_all(&mut database)
            .await?;
    database.close().await?;
    let backends: Vec<u32> = backends.into_iter().map(i32::cast_unsigned).collect();
    Ok([
        processor::of_group(side.process)?,
        processor::of_processes(&backends)?,
    ])
}

/// Sends `count` requests to each side, one after the other, in turns; then as many with some at the same time. `send` has the side's place and the
/// request's number, which no other request of this side has.
pub async fn measure<S>(
    stack: &Stack,
    sides: &[&Side],
    count: usize,
    send: S,
) -> Result<Vec<Measured>>
where
    S: AsyncFn(usize, usize) -> Result<()>,
{
    let mut measured: Vec<Measured> = sides.iter().map(|_| Measured::default()).collect();
    for first in (0..count).step_by(TURN) {
        for (place, (side, measured)) in sides.iter().zip(&mut measured).enumerate() {
            let before = spent(stack, side).await?;
            let requests = first..count.min(first + TURN);
            for request in requests.clone() {
                let start = Instant::now();
                send(place, request).await?;
                measured.times.push(start.elapsed());
            }
            let after = spent(stack, side).await?;
            measured.alone.add(requests.len(), before, after);
        }
    }
    for (place, (side, measured)) in sides.iter().zip(&mut measured).enumerate() {
        let before = spent(stack, side).await?;
        let start = Instant::now();
        stream::iter(0..count)
            .map(|request| send(place, count + request))
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect::<Vec<()>>()
            .await?;
        measured.together_for = start.elapsed();
        measured
            .together
            .add(count, before, spent(stack, side).await?);
    }
    Ok(measured)
}
